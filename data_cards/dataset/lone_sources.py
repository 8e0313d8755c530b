"""Warning about classes with a single source. Imports no image code, so that training can import it."""

from collections.abc import Collection

from data_cards.core.labels import CLASS_NAMES


def format_lone_sources(trained: Collection[tuple[str, str]]) -> str | None:
    """Format the warning of `format_single_sources` for pairs of a class's name and a source."""
    alone = {}
    for label in CLASS_NAMES:
        sources = {source for one, source in trained if one == label}
        if len(sources) == 1:
            alone[label] = sources.pop()
    if not alone:
        return None
    if len(alone) == len(CLASS_NAMES):
        named = ", ".join(f"{label}: {source}" for label, source in alone.items())
        what = f"each class has only one source ({named})"
    else:
        [(label, source)] = alone.items()
        what = f"all {label} pictures have one source ({source})"
    return (
        f"{what}, so every verdict will be "
        "unsure: a detector may recognise that collection instead of generated pictures. Put the pictures of each "
        "camera, collection and generator into a folder of its own, such as train/fake/NAME/, or name the sources with "
        "--source-pattern or --labels; even then, few verdicts are sure until each class has 15 sources"
    )
