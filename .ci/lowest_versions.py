"""Print the lowest versions that setup.cfg allows, as constraints for pip.

Of the packages that the program needs, and of the extras for users. Developers' tools, and torch, whose older files
take gigabytes, have the versions of constraints.txt.
"""

import configparser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = "dev"  # the extra of developers
AS_TESTED = "torch"
# What the lowest s3fs needs, so that pip need not try hundreds of versions beside those of moto; and the last pyparsing
# without warnings about how the lowest matplotlib calls it.
NEEDED = ("aiobotocore==2.21.1", "botocore==1.37.1", "boto3==1.37.1", "pyparsing==3.2.5")


def main() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    tested = {canonicalize_name(name): version for name, version in tested.items()}
    extras = setup["options.extras_require"]
    for text in "\n".join([setup["options"]["install_requires"], *extras.values()]).split("\n"):
        if not text.strip() or text.startswith(setup["metadata"]["name"]):
            continue
        needed = Requirement(text)
        name = canonicalize_name(needed.name)
        as_tested = name == AS_TESTED or text in extras[TOOLS].split("\n")
        print(f"{name}=={tested[name] if as_tested else _get_lowest(needed)}")
    print(*NEEDED, sep="\n")


def _get_lowest(needed: Requirement) -> str:
    (lowest,) = (one.version for one in needed.specifier if one.operator == ">=")
    return lowest


if __name__ == "__main__":
    main()
