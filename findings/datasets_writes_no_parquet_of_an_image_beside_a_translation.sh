#!/usr/bin/env bash
# datasets 5.2.0, Python 3.11: a dataset with an Image and a Translation column cannot be written as Parquet (nor pushed):
# AttributeError: 'Translation' object has no attribute 'items'. Each of the two columns alone is written, and so is the
# image beside the same texts as a plain struct. With an image, `to_parquet` estimates what its file will add, and goes
# for that through every column of structs as if its feature were a dict. Translated captions of pictures are such data.
# Who meets it casts the column to a struct of strings before.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==12.3.0 2>&1 | grep -v WARNING || true
cat > "$work/write.py" <<'PY'
import io
import sys

import datasets
from PIL import Image

datasets.disable_progress_bars()
png = io.BytesIO()
Image.new("RGB", (2, 2)).save(png, "PNG")
row = {"image": {"bytes": png.getvalue(), "path": None}, "texts": {"en": "a tail", "fr": "une queue"}}
text = datasets.Value("string")
kinds = {"translation": datasets.Translation(["en", "fr"]), "struct": {"en": text, "fr": text}}
for columns in (("image",), ("translation",), ("image", "struct"), ("image", "translation")):
    features = {"image" if each == "image" else "texts": kinds.get(each, datasets.Image()) for each in columns}
    rows = datasets.Dataset.from_list([{name: row[name] for name in features}], features=datasets.Features(features))
    try:
        rows.to_parquet(f"{sys.argv[1]}/rows.parquet")
        print(" + ".join(columns), "ok")
    except AttributeError as error:
        print(" + ".join(columns), error)
PY
seen=$(HF_HOME="$work/home" "$work/venv/bin/python" "$work/write.py" "$work")
echo "datasets 5.2.0, to_parquet:"
echo "$seen"
[ "$seen" = "image ok
translation ok
image + struct ok
image + translation 'Translation' object has no attribute 'items'" ]
