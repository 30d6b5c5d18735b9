"""Runs the program under test, file against file."""

import json
import os
import shutil
import subprocess
import tempfile

import torch
from safetensors.torch import load_file, save_file


class CommandFailed(Exception):
    """The program ended with another exit code than 0; the text is what it wrote to stderr."""


class Jevons:
    """One build of the program, and a folder for what it writes."""

    def __init__(self, build, keep=None):
        self.program = os.path.join(build, "jevons")
        self._keep = keep
        self.folder = keep or tempfile.mkdtemp(prefix="jevons_oracle_")
        self._made = 0

    def close(self):
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        """A new path in the folder; nothing is there yet."""
        self._made += 1
        return os.path.join(self.folder, f"{self._made:03}_{name}")

    def run(self, *arguments, stdin=None, timeout=300):
        """stdout of one command; CommandFailed with its stderr otherwise."""
        command = [self.program, *[str(a) for a in arguments]]
        environment = dict(os.environ, NO_COLOR="1", OMP_NUM_THREADS="2")
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment, timeout=timeout)
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace").strip()
            raise CommandFailed(f"`{' '.join(['jevons', *command[1:]])}` exit {done.returncode}: {text[-1500:]}")
        return done.stdout

    def import_model(self, model):
        """The run folder that `jevons import` makes of a published model folder."""
        run = self.path("run")
        self.run("import", "--input", model, "--output", run)
        return run

    def export_model(self, run, precision="fp32"):
        folder = self.path("export")
        self.run("export", "--checkpoint", run, "--output", folder, "--precision", precision)
        return folder

    def score(self, run, tokens, logits=True, gradients=False, mtp=False):
        """The tensors of `jevons score` for tokens [B, S]."""
        into, out = self.path("tokens.safetensors"), self.path("scores.safetensors")
        save_file({"input_ids": tokens.to(torch.int64).contiguous()}, into)
        flags = [f for f, on in (("--logits", logits), ("--gradients", gradients), ("--mtp", mtp)) if on]
        self.run("score", "--checkpoint", run, "--tokens", into, "--output", out, *flags)
        tensors = load_file(out)
        os.remove(out)
        return tensors

    def greedy(self, run, tokens, count):
        """tokens [B, S] and `count` more, each the arg max of the logits: [B, S + count]."""
        for _ in range(count):
            logits = self.score(run, tokens)["logits"]
            tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        return tokens

    def train(self, config, output, **fields):
        """Trains; fields: overrides of the config, `model__layers=3` for model.layers."""
        sets = [a for path, value in fields.items() for a in ("--set", f"{path.replace('__', '.')}={value}")]
        self.run("train", "--config", config, *sets, "--output", output)

    def tokenize(self, tokenizer, rows, decode=False, plain=False):
        """Texts to lists of ids, or with decode the reverse."""
        flags = [f for f, on in (("--decode", decode), ("--plain", plain)) if on]
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        out = self.run("tokenize", "--tokenizer", tokenizer, *flags, stdin=lines)
        return [json.loads(line) for line in out.split(b"\n") if line]  # a text may hold other line separators


def metrics(run):
    """The records of metrics.jsonl, one per step."""
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]
