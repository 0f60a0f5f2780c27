"""llama.cpp with one GGUF file, through the server that the package `xllamacpp` holds, on this machine alone."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.core.errors import EnvironmentLacks, library_errors
from toolkit.model.chat_template import Messages

INSTALL = "Install it with `pip install 'pokepicker-toolkit[export]'`."
# Bytes of a model that one thread reads fast enough.
SMALL = 10**9
# Added to the logit of a token that has to come next; the probabilities that are reported are those before.
FORCED = 1e6
# How many of the next tokens are asked for: mostly the likeliest do, and all of a vocabulary take seconds.
LIKELIEST = (200, 10**6)


def check_installed() -> None:
    """Raise EnvironmentLacks unless GGUF files can be written and llama.cpp is there to look at them."""
    for package in ("gguf", "xllamacpp"):
        if importlib.util.find_spec(package) is None:
            raise EnvironmentLacks(f"An export needs the package {package}, which is not installed.", INSTALL)


class LlamaCpp:
    """A model that llama.cpp has loaded, on the CPU. `close` ends it.

    Args:
        file: A GGUF file of a model.
        context: How many tokens a prompt and its answer take at most.
        lora: A GGUF file of a LoRA adapter for it.
    """

    def __init__(self, file: Path, context: int, lora: Path | None = None) -> None:
        import httpx2

        # It needs libgomp, which slim images lack: torch, imported before, brings its own.
        with library_errors("The package xllamacpp cannot be loaded", "Export on another machine.", EnvironmentLacks):
            import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = context
        params.n_parallel, params.n_gpu_layers, params.verbosity = 1, 0, -1
        # Its threads spin at each layer: for a small model beside busy programs, two took 60 times as long as one.
        threads = 1 if file.stat().st_size < SMALL else os.cpu_count() or 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.warmup = params.fit_params = params.ui = False
        if lora is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        with library_errors(f"llama.cpp cannot load {file.name}", "Please report it, with the base that was used."):
            self._server = xllamacpp.Server(params)
        self._client = httpx2.Client(base_url=self._server.listening_address, timeout=None, trust_env=False)

    def close(self) -> None:
        """Free the memory."""
        self._client.close()
        del self._server

    def tokens(self, text: str, *, whole: bool) -> list[int]:
        """Token ids of a text, by itself or as a `whole` prompt with its control tokens."""
        found = self._post("/tokenize", content=text, add_special=whole, parse_special=whole)
        return list(found["tokens"])

    def prompt(self, messages: Messages) -> str:
        """The text that the file's chat template makes of a conversation."""
        return str(self._post("/apply-template", messages=list(messages))["prompt"])

    def greedy_name(self, prompt: Sequence[int], max_new_tokens: int) -> str:
        """The most likely name after a prompt, token by token."""
        answer = self._post("/completion", prompt=list(prompt), n_predict=max_new_tokens, temperature=0)
        return str(answer["content"]).strip()

    def log_likelihood(self, prompt: Sequence[int], candidate: Sequence[int]) -> float:
        """Natural-log probability of a candidate's tokens, the last of which ends an answer, after a prompt."""
        before = range(len(candidate))
        return sum(
            self._log_probability([*prompt, *candidate[:done]], candidate[done], candidate[-1]) for done in before
        )

    def _log_probability(self, prompt: list[int], token: int, end: int) -> float:
        # The server gives no probabilities beside a part of a character, so the end of the turn is made to come next.
        said = {"n_predict": 1, "temperature": 0, "logit_bias": [[end, FORCED]]}
        for likeliest in LIKELIEST:
            answer = self._post("/completion", prompt=prompt, n_probs=likeliest, **said)
            found = {one["id"]: one["logprob"] for one in answer["completion_probabilities"][0]["top_logprobs"]}
            if token in found:
                break
        return float(found[token])

    def _post(self, path: str, **body: Any) -> Any:
        with library_errors("llama.cpp does not answer", "Please report it, with the base that was used."):
            response = self._client.post(path, json=body)
            response.raise_for_status()
            return response.json()
