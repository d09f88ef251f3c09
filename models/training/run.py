"""What every training script shares: arguments, a resumable checkpoint, the learning-rate schedule, an average of weights."""

import argparse
import copy
import json
import os
import random
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent


class Run:
    """A training run of a fixed number of steps that continues where its last checkpoint stopped.

    `state` maps names to objects with `state_dict`/`load_state_dict`. Random state is saved too, so that an interrupted
    run gives what an uninterrupted one gives (on the same machine).
    """

    def __init__(self, name, steps, state, every=250, flags=()):
        parser = argparse.ArgumentParser()
        for flag in flags:
            parser.add_argument(flag, action="store_true")
        parser.add_argument("--steps", type=int, default=steps)
        parser.add_argument("--work", type=Path, default=HERE / "work", help="where checkpoints and results go")
        self.args = parser.parse_args()
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        torch.set_num_threads(1)
        self.steps, self.work, self.every = self.args.steps, self.args.work, every
        self.file = self.work / f"{name}.checkpoint"
        self.name, self.state, self.rng = name, state, random.Random(0)
        self.step, self.seconds, self._mean, self._t0 = 0, 0.0, None, 0.0
        torch.manual_seed(0)

    def prepare(self, state):
        """Registers what to checkpoint and loads the last checkpoint, if there is one."""
        self.state = state
        if self.file.exists():
            saved = torch.load(self.file, weights_only=False)
            for key, value in saved["state"].items():
                self.state[key].load_state_dict(value)
            self.step, self.seconds = saved["step"], saved["seconds"]
            torch.set_rng_state(saved["torch"])
            self.rng.setstate(saved["python"])
            print(f"{self.name}: continuing at step {self.step}", flush=True)

    def save(self):
        data = {
            "state": {key: value.state_dict() for key, value in self.state.items()},
            "step": self.step,
            "seconds": self.seconds + time.process_time() - self._t0,
            "torch": torch.get_rng_state(),
            "python": self.rng.getstate(),
        }
        part = self.file.with_suffix(".part")
        torch.save(data, part)
        part.replace(self.file)

    def __iter__(self):
        self._t0 = time.process_time()
        while self.step < self.steps:
            yield self.step
            self.step += 1
            if self.step % self.every == 0 or self.step == self.steps:
                self.save()

    def log(self, loss, **more):
        """Prints a line every 50 steps with the running mean of the loss."""
        self._mean = loss if self._mean is None else 0.98 * self._mean + 0.02 * loss
        if self.step % 50 == 0:
            cpu = self.seconds + time.process_time() - self._t0
            rest = " ".join(f"{key} {value:.4g}" for key, value in more.items())
            print(f"{self.name} {self.step}/{self.steps} loss {self._mean:.4f} cpu {cpu:.0f}s {rest}", flush=True)

    def report(self, **facts):
        """Writes what the run cost, for the model card."""
        facts |= {"steps": self.steps, "cpu_seconds": round(self.seconds + time.process_time() - self._t0)}
        (self.work / f"{self.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(self.name, facts, flush=True)


def warm_then_linear(step, steps, warm=100, decay=0.5):
    """Factor of the learning rate: a short warm-up, a plateau, a linear decay to zero over the last `decay`."""
    return min(1.0, (step + 1) / warm) * min(1.0, max(0.0, (steps - step) / (decay * steps)))


class Average(torch.nn.Module):
    """Exponential moving average of a model's parameters; its buffers are copied."""

    def __init__(self, model, decay):
        super().__init__()
        self.decay, self.model = decay, copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.model.parameters(), model.parameters()):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)


def optimizers(matrices, others, lr, other_lr):
    """Muon for the matrices inside the blocks, AdamW for everything else; each group keeps its base rate."""
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=other_lr, weight_decay=0.0, betas=(0.9, 0.98))
    for optimizer, base in ((muon, lr), (adam, other_lr)):
        for group in optimizer.param_groups:
            group["base"] = base
    return muon, adam


def set_rate(optimizers, factor):
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
