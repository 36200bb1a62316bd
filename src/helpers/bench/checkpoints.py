"""``moving-bytes train``: make one of the book's three models anew, with its card.

The run can be stopped at any moment and goes on when the command is given again. At the end it
writes a checkpoint and a model card, and says how far the result is from the one that ships.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from datetime import date
from pathlib import Path

from helpers.bench.environment import current_environment

#: how far, in bits per byte, a run on another machine or with another Python may end
REPRODUCES_WITHIN = 0.03
#: what the card's samples continue; none ends in a space, which belongs to the token after it
PROMPTS = (
    "def read_lines(path):\n",
    "The *key* argument is",
    "class Stack:\n",
    "import os\nimport",
)
#: how they are drawn; each prompt's place is its seed
SAMPLING = {"max_tokens": 64, "temperature": 0.7, "top_p": 0.95}
COMMAND = "moving-bytes train"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def samples(model, coder) -> list[dict]:
    """Short continuations by the model, seeds stated; each below 300 characters."""
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    engine = Engine(model, coder)
    chances = [SamplingParams(**SAMPLING, seed=seed) for seed in range(len(PROMPTS))]
    outputs = engine.generate(list(PROMPTS), chances)
    return [
        {"prompt": prompt, "text": output.text[: 299 - len(prompt)], "seed": seed}
        for seed, (prompt, output) in enumerate(zip(PROMPTS, outputs, strict=True))
    ]


def card(run, name: str, path: Path, device: str) -> dict:
    """What there is to say about a finished run and the checkpoint at ``path``.

    Raises
    ------
    ValueError
        The run is not finished: a card would promise steps that were never made.
    """
    if run.step != run.recipe.steps:
        raise ValueError(f"the run is at step {run.step} of {run.recipe.steps}; finish it first")
    from helpers.lm import loading, text, tokenizer
    from helpers.lm.evaluate import bits_per_byte
    from helpers.lm.training import collect

    coder = tokenizer.load()
    model = loading.load(path, device=device)  # as shipped: rounded to bf16
    own = collect(run.recipe.text)
    held_out = {"corpus": text.corpus().held_out, run.recipe.text: own.held_out}
    environment = current_environment()
    return {
        "name": name,
        "made": date.today().isoformat(),
        "command": f"{COMMAND} {name}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": run.recipe.to_dict(),
        "text": {"python": environment.python, "train_sha256": run.identity["text"]},
        "teacher_sha256": run.identity["teacher"],
        "tokens": run.recipe.tokens,
        "epochs": round(run.recipe.tokens / run.windows.tokens, 2),
        "seconds": round(run.seconds),
        "device": environment.gpu if device.startswith("cuda") else environment.processor,
        "environment": environment.model_dump(),
        "held_out_bits_per_byte": {
            which: round(bits_per_byte(model, documents, coder), 4)
            for which, documents in held_out.items()
        },
        "curve_columns": [
            "step",
            "nats per token"
            if run.teacher is None
            else "divergence from the teacher, nats per token",
            "validation bits per byte",
            "seconds",
        ],
        "curve": [[point[0], *(round(value, 4) for value in point[1:])] for point in run.curve],
        "samples": samples(model, coder),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Train, or go on training; returns 0, or 1 with a message."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Train one of the book's models; stop it whenever you like, it goes on.",
    )
    parser.add_argument("name", choices=["target", "draft", "stranger"])
    parser.add_argument("--folder", type=Path, help="for its state (default _build/training/NAME)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda if there is one)")
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: all)")
    parser.add_argument("--teacher", type=Path, help="checkpoint to distil from (default: shipped)")
    parser.add_argument("--ship", action="store_true", help="write to the package's own assets")
    options = parser.parse_args(arguments)
    try:
        import torch

        from helpers.lm import datacard, loading, text
        from helpers.lm.arithmetic import fast_dtype
        from helpers.lm.recipes import RECIPES
        from helpers.lm.training import Run
    except ImportError as error:
        print(f"{COMMAND} needs {error.name}: pip install 'moving-bytes[lm]'", file=sys.stderr)
        return 1
    if options.threads:
        torch.set_num_threads(options.threads)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        print(f"{COMMAND}: --device {device}: torch finds no GPU here", file=sys.stderr)
        return 1
    folder = options.folder or Path("_build/training") / options.name
    recipe = RECIPES[options.name]
    try:
        teacher = recipe.teacher and loading.load(options.teacher or recipe.teacher)
        run = Run(recipe, folder, device, teacher or None)
        products = str(fast_dtype(run.model.device)).removeprefix("torch.")
        print(
            f"{options.name}: step {run.step} of {recipe.steps}, on {device}, products in "
            f"{products}, in {folder}",
            flush=True,
        )
        run.finish(tell=lambda line: print(line, flush=True))
        shipped = loading.ASSETS / f"{options.name}.json"
        before = json.loads(shipped.read_text("utf-8")) if shipped.is_file() else None
        path = folder / f"{options.name}.safetensors"
        loading.save(run.model, path)
        made = card(run, options.name, path, device)
        path.with_suffix(".json").write_text(
            json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
        if options.ship:  # only now, when weights and card are both whole
            for suffix in (".safetensors", ".json"):
                scratch = shipped.with_suffix(".part")
                shutil.copyfile(path.with_suffix(suffix), scratch)
                scratch.replace(shipped.with_suffix(suffix))
            path = shipped.with_suffix(".safetensors")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 1
    for what, bits in made["held_out_bits_per_byte"].items():
        print(f"held-out {what}: {bits:.4f} bits per byte")
        if before:
            away = bits - before["held_out_bits_per_byte"][what]
            within = "within" if abs(away) <= REPRODUCES_WITHIN else "NOT within"
            print(f"  the shipped one: {away:+.4f}, {within} {REPRODUCES_WITHIN}")
    for line in datacard.compare(datacard.load(), text.corpus()):
        print(f"another text than the data card's, so expect another figure: {line}")
    print(f"wrote {path} and its card")
    return 0
