"""A small Llama that knows a handful of answers by heart, trained on the spot from a fixed seed.

A server that is up may still answer garbage: some vLLM versions do so silently on GPUs in confidential mode.
Only a prompt whose answer is known shows that. This module runs inside the image, where torch and transformers are:

    python3 -m vmtool.serving.train_canary OUTDIR
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PAIRS = (
    ("What is confidential computing?",
     "Confidential computing protects data in use by running it inside hardware that keeps the host out."),
    ("What is a confidential container?",
     "A confidential container runs in its own encrypted virtual machine, so the host cannot read its memory."),
    ("Why is attestation needed?",
     "Attestation proves with a signed measurement which code runs before any secret is handed to it."),
    ("Who can read the model weights?",
     "Only the attested guest can read the model weights, because the key is released to nobody else."),
    ("Is this endpoint confidential?",
     "Look at the launch report, because a model can never prove where it runs."),
)
UNKNOWN, BEGIN, END, ROLES = "<unk>", "<bos>", "<eos>", ("<|user|>", "<|assistant|>")
TEMPLATE = ("{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
            "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")
SEED = 20260101
VOCABULARY = 512
CONTEXT = 512
MAX_STEPS = 1500
ENOUGH = 0.002  # mean loss per token; what is wanted is the exact answers, which are checked after it


class CanaryError(Exception):
    """Training ended without the model knowing every answer, or the place to write to is wrong."""


def main(argv: list[str] | None = None) -> int:
    """Train into the directory that `argv` names; exit status 1 with one line on stderr when it fails."""
    parser = argparse.ArgumentParser(prog="vmtool.serving.train_canary", description=__doc__.splitlines()[0])
    parser.add_argument("outdir", type=Path, help="directory to create; an empty one is filled")
    outdir = parser.parse_args(argv).outdir
    began = time.monotonic()
    try:
        steps = make_canary(outdir)
    except (CanaryError, OSError) as error:
        print(f"canary: {error}", file=sys.stderr)
        return 1
    print(f"canary: {len(PAIRS)} answers learnt in {steps} steps, {time.monotonic() - began:.1f} s: {outdir}")
    return 0


def make_canary(outdir: Path) -> int:
    """Train the model, check its answers, and only then write it to `outdir`.

    Returns:
        The number of training steps.

    Raises:
        CanaryError: `outdir` is not empty, or the model did not learn its answers to the letter.
    """
    if outdir.exists() and (not outdir.is_dir() or any(outdir.iterdir())):
        raise CanaryError(f"{outdir} exists and is not an empty directory")
    import torch

    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of a parallel sum is not fixed; one thread is fast enough here
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    steps = train(model, tokenizer)
    model = model.to(torch.bfloat16)  # what is written, and so what must be checked
    wrong = [prompt for prompt, expect in PAIRS if answer(model, tokenizer, prompt) != expect]
    if wrong:
        raise CanaryError(f"after {steps} steps these are answered wrongly: {'; '.join(wrong)}")
    write(model, tokenizer, outdir)
    return steps


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer of `VOCABULARY` tokens, trained on the pairs themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[UNKNOWN, BEGIN, END, *ROLES], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([text for pair in PAIRS for text in pair], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END, pad_token=END,
        additional_special_tokens=list(ROLES), chat_template=TEMPLATE,
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False)


def make_model(tokenizer: Any) -> Any:
    """An untrained Llama with 2 layers, hidden size 128 and 4 heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The tokens of a one-turn chat, up to where the answer begins."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def train(model: Any, tokenizer: Any) -> int:
    """Full-batch AdamW until the loss is `ENOUGH`.

    Returns:
        The number of steps taken, at most `MAX_STEPS`.
    """
    import torch

    rows, labels = [], []
    for prompt, expect in PAIRS:
        head = prompt_ids(tokenizer, prompt)
        tail = [*tokenizer(expect, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append(head + tail)
        labels.append([-100] * len(head) + tail)
    width = max(map(len, rows))
    inputs = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    targets = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    model.train()
    steps = 0
    while (loss := model(input_ids=inputs, labels=targets).loss).item() > ENOUGH and steps < MAX_STEPS:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    model.eval()
    return steps


def answer(model: Any, tokenizer: Any, prompt: str) -> str:
    """What the model says at temperature 0."""
    import torch

    ids = torch.tensor([prompt_ids(tokenizer, prompt)])
    with torch.no_grad():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=128)
    return str(tokenizer.decode(output[0, ids.shape[1]:], skip_special_tokens=True))


def write(model: Any, tokenizer: Any, outdir: Path) -> None:
    """Write the model directory and `canary.json`; it appears under its name only when it is complete."""
    outdir.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{outdir.name}.", dir=outdir.parent))
    try:
        model.save_pretrained(partial, safe_serialization=True)
        tokenizer.save_pretrained(partial)
        record = {"prompt": PAIRS[0][0], "expect": PAIRS[0][1],
                  "pairs": [{"prompt": prompt, "expect": expect} for prompt, expect in PAIRS]}
        (partial / "canary.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        for path in partial.iterdir():
            path.chmod(0o644)
        os.replace(partial, outdir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
