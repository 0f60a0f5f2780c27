#!/usr/bin/env bash
# gradio 6.31.0, Python 3.11: a page that is built where no event loop runs (a plain script or test, as in gradio's own
# examples) leaves event loops open, each with a pair of sockets; Python says "unclosed event loop" for each when they are
# collected. Built inside a coroutine, the same page leaves none. Seen: outside several, inside 0.
# Who serves such a page from a test suite that takes ResourceWarnings for errors has to build it inside a running loop.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gradio==6.31.0 2>&1 | grep -v WARNING || true
cat > "$work/page.py" <<'PY'
import asyncio
import gc
import sys
import warnings

import gradio

def build():
    with gradio.Blocks() as page:
        text = gradio.Textbox()
        gradio.Button("Go").click(lambda value: value, text, text)
    return page

async def build_inside():
    return build()

gc.collect()
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    page = build() if sys.argv[1] == "outside" else asyncio.run(build_inside())
    del page
    gradio.context.Context.root_block = None
    gc.collect()
print(sum("unclosed event loop" in str(one.message) for one in seen))
PY
export GRADIO_ANALYTICS_ENABLED=False
outside=$("$work/venv/bin/python" "$work/page.py" outside)
inside=$("$work/venv/bin/python" "$work/page.py" inside)
echo "gradio 6.31.0: $outside event loops left open outside a running loop, $inside inside one"
[ "$outside" -gt 0 ] && [ "$inside" -eq 0 ]
