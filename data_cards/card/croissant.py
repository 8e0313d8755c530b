"""A data card as Croissant JSON-LD with its Responsible-AI fields (MLCommons Croissant 1.0, RAI 1.0).

The data set that it describes is the manifest: one row for each picture, with path and sha256. The pictures
themselves are not part of it.
"""

from collections import Counter

from data_cards.audit.audit import format_finding
from data_cards.card.markdown import MISSING, find_common_licence
from data_cards.core.files import MANIFEST
from data_cards.core.labels import CLASS_NAMES
from data_cards.image.jpeg import NO_QUALITY

# Columns of the manifest: Croissant's data type and the meaning of each.
MANIFEST_COLUMNS = {
    "path": ("sc:Text", "the picture file, relative to the folder of its set"),
    "split": ("sc:Text", "train, val or test"),
    "class": ("sc:Text", "real or fake"),
    "source": ("sc:Text", "the collection or generator"),
    "sha256": ("sc:Text", "of the file, hexadecimal"),
    "bytes": ("sc:Integer", "size of the file"),
    "format": ("sc:Text", "of the file"),
    "width": ("sc:Integer", "in pixels, upright"),
    "height": ("sc:Integer", "in pixels, upright"),
    "quality": ("sc:Integer", f"JPEG quality estimated from the tables; {NO_QUALITY} for other formats"),
    "group": ("sc:Integer", "number of the near-duplicate group"),
}
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet", "references": "cr:references",
    "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def compute_croissant(card: dict, manifest_sha256: str) -> dict:
    """Compute the JSON-LD of a card (see `data_cards.card.contents`); the hash is of its `manifest.csv`."""
    licence = find_common_licence(card)
    urls = sorted({one["provenance"]["url"] for one in card["sources"]} - {None})
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": card["name"],
        "description": _format_description(card),
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "license": licence or f"{MISSING} for all sources; see each source",
        **({"isBasedOn": urls} if urls else {}),
        **_compute_responsible_ai(card),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "manifest",
                "name": "manifest",
                "description": "one row a picture",
                "contentUrl": MANIFEST,
                "encodingFormat": "text/csv",
                "sha256": manifest_sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "pictures",
                "name": "pictures",
                "description": "the pictures of the set",
                "key": {"@id": "pictures/path"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"pictures/{name}",
                        "name": name,
                        "description": meaning,
                        "dataType": kind,
                        "source": {"fileObject": {"@id": "manifest"}, "extract": {"column": name}},
                    }
                    for name, (kind, meaning) in MANIFEST_COLUMNS.items()
                ],
            }
        ],
    }


def _format_description(card: dict) -> str:
    real, fake = (card["classes"][label]["pictures"] for label in CLASS_NAMES)
    simulated = "Simulated pictures. " if card["simulated"] else ""
    return f"{simulated}{real} photographs and {fake} generated pictures, to train and test detectors with."


def _format_finding(finding: dict) -> str:
    rule = finding["telling"][0]["words"] if finding["telling"] else None
    return format_finding(finding["family"], finding["auroc"]["value"], finding["verdict"], rule)


def _compute_responsible_ai(card: dict) -> dict:
    counts = Counter(one["source"] for one in card["sources"])
    stated = [  # both classes may have a source of the same name
        (f"{one['class']}/{one['source']}" if counts[one["source"]] > 1 else one["source"], one["provenance"])
        for one in card["sources"]
    ]

    def format_sources(*names: str) -> list[str]:
        return [
            f"{source}: " + (", ".join(f"{name} {own[name]}" for name in names if own[name]) or MISSING)
            for source, own in stated
        ]

    selections = [
        f"fraction {one.get('fraction')}, seed {one.get('seed')}, where {one.get('where')}, "
        f"at most {one.get('max_per_source')} per source, balanced in {one.get('balance')}"
        for one in card["selections"]
    ]
    audit = card["audit"]
    biases = [
        f"{_format_finding(one)} (95% interval {one['auroc']['low']:.3f} to {one['auroc']['high']:.3f}: "
        f"{one['verdict']})"
        for one in audit["findings"]
    ]
    variants = card["variants"]
    return {
        "rai:dataCollection": "; ".join(format_sources("name", "generator", "camera", "url", "date", "note")),
        "rai:dataCollectionType": ["Others"],
        "rai:dataCollectionMissingData": f"{len(card['set_aside'])} picture files could not be used",
        "rai:dataPreprocessingProtocol": [
            f"split: {card['split_rule']}",
            *selections,
            *([f"variants: {variants['recipe']} ({', '.join(variants['names'])})"] if variants else []),
        ],
        "rai:dataAnnotationProtocol": "the class is given by a picture's folder, or by a table of labels",
        "rai:dataUseCases": ["training and testing of detectors of generated pictures"],
        "rai:dataLimitations": card["limits"],
        "rai:dataBiases": biases or [audit["reason"]],
        "rai:personalSensitiveInformation": [
            "photographs may show people",
            *(f"consent, {one}" for one in format_sources("consent")),
        ],
    }
