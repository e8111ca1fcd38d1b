"""OpenVINO GenAI's continuous batching: run with its own Python (requirements-openvino.txt), on the ids that are given.

    python serve_openvino.py export MODEL EXPORTED            # once a model: optimum-intel, weights in f16
    python serve_openvino.py EXPORTED WORK OUT SETTINGS

WORK as in serve_transformers.py. SETTINGS: JSON (cache_gib). All of a level's requests are added as slots fall free, as
a server would; greedy, the end token ignored. First tokens are timed by the steps of the pipeline.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

WARM_TOKENS = 8


def export(model: str, target: str) -> None:
    """Write the model in OpenVINO's form."""
    from optimum.intel import OVModelForCausalLM

    exported = OVModelForCausalLM.from_pretrained(model, export=True, compile=False, load_in_8bit=False)
    exported.half()
    exported.save_pretrained(target)


def run(pipeline: Any, prompts: list[Any], level: int, settings: Any, *, tokens: int) -> tuple[float, list[float]]:
    """Answer the prompts, so many at a time; returns seconds in all and to each first token."""
    began = time.perf_counter()
    waiting, firsts, number, made = list(reversed(prompts)), [], 0, 0
    open_: dict[int, tuple[Any, float, bool]] = {}
    while waiting or open_:
        while waiting and len(open_) < level:
            open_[number] = (pipeline.add_request(number, waiting.pop(), settings), time.perf_counter(), False)
            number += 1
        pipeline.step()
        now = time.perf_counter()
        for key, (handle, asked, heard) in list(open_.items()):
            if handle.can_read():
                for output in handle.read().values():
                    made += len(output.generated_ids)
                if not heard:
                    firsts.append(now - asked)
                    open_[key] = (handle, asked, True)
            if str(handle.get_status()).endswith("FINISHED"):
                del open_[key]
    if made != len(prompts) * tokens:
        raise SystemExit(f"{made} tokens instead of {len(prompts) * tokens}")
    return time.perf_counter() - began, firsts


def main(folder: str, work_file: str, out: str, settings: str) -> None:
    """Measure every level and write the result."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    work, given = json.loads(Path(work_file).read_text()), json.loads(settings)
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = given["cache_gib"]
    scheduler.enable_prefix_caching = False
    scheduler.max_num_seqs = 64
    began = time.perf_counter()
    pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU")
    loaded = time.perf_counter() - began

    def wanted(tokens: int) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = tokens, False, True
        return config

    prompts = [ov.Tensor(np.array([prompt["ids"]], np.int64)) for prompt in work["prompts"]]
    found: dict[str, Any] = {"levels": {}, "load_seconds": round(loaded, 2)}
    for level, plan in work["levels"].items():
        warm, count = prompts[plan["warm"] : plan["warm"] + int(level)], plan["count"]
        run(pipeline, warm, int(level), wanted(WARM_TOKENS), tokens=WARM_TOKENS)
        todo, tokens = prompts[plan["start"] : plan["start"] + count], work["new_tokens"]
        seconds, firsts = run(pipeline, todo, int(level), wanted(tokens), tokens=tokens)
        rate = round(count * tokens / seconds, 1)
        found["levels"][level] = {"tokens_per_second": rate, "seconds": round(seconds, 3), "first": sorted(firsts)}
    probes = prompts[-work["probes"] :]
    found["first_idle"] = [run(pipeline, [probe], 1, wanted(2), tokens=2)[1][0] for probe in probes]
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    export(*sys.argv[2:]) if sys.argv[1] == "export" else main(*sys.argv[1:])
