"""Accuracy on real customer questions: our whole service beside TRL + PEFT on the same base, ids, labels and settings.

    python -m benchmarks.banking77 --data FOLDER --rivals rivals/bin/python

FOLDER holds train.jsonl and test.jsonl in prompt/completion form (banking77 of PolyAI, CC BY 4.0). Ours runs as a user
runs it: a server, an upload, CreateModelCustomizationJob, provisioned throughput, InvokeModel. TRL trains on the token
ids and label marks of our own plan, with the same examples per step, learning rate, schedule and epochs. Both adapters
are judged by plain transformers and PEFT (rivals/accuracy.py); ours is asked over the wire too. The order of examples
is each trainer's own, so several seeds. Writes results/banking77.json after every run.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from benchmarks.machine import machine
from outcrop.catalog.catalog import Catalog
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.demo.server import point_boto3_at, served
from outcrop.directory import DataDirectory
from outcrop.records import rate_over
from outcrop.train.loop import BETAS

RIVALS: Final = Path(__file__).parent / "rivals"
RESULT: Final = Path(__file__).parent / "results" / "banking77.json"
MODEL: Final = "amazon.titan-text-express-v1"
WEIGHTS: Final = "bundled:text"
DTYPE: Final = "bfloat16"
"""What the service computes in on this kind of machine; the peer gets the same."""
WARMUP, RANK, ALPHA = 5, 16, 32.0


def ours(data: Path, home: Path, settings: dict[str, Any], rival: str) -> dict[str, Any]:
    """One job through the API; its accuracy over the wire and by the common judge, which is the rival's Python."""
    bedrock = boto3.client("bedrock")
    name = f"banking77-{settings['seed']}"
    job = bedrock.create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn=f"arn:aws:iam::{boto3.client('sts').get_caller_identity()['Account']}:role/BedrockCustomizationRole",
        baseModelIdentifier=MODEL,
        trainingDataConfig={"s3Uri": "s3://banking77/train.jsonl"},
        outputDataConfig={"s3Uri": "s3://banking77/output/"},
        hyperParameters={
            "epochCount": str(settings["epochs"]),
            "batchSize": str(settings["batch_size"]),
            "learningRate": f"{settings['titan_learning_rate']:.8f}",
            "seed": str(settings["seed"]),
        },
    )["jobArn"]
    while (found := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
        time.sleep(0.5)
    if found["status"] != "Completed":
        raise SystemExit(f"our job is {found['status']}: {found.get('failureMessage')}")
    model_id = found["outputModelArn"].rpartition("/")[2]
    correct = _over_the_wire(bedrock, name, data / "test.jsonl")
    return {
        "seed": settings["seed"],
        "training_loss": found["trainingMetrics"]["trainingLoss"],
        "accuracy_over_the_wire": correct,
        "accuracy": _judged(home / "models" / model_id, data / "test.jsonl", home, rival),
    }


def _over_the_wire(bedrock: Any, name: str, test: Path) -> float:
    """Greedy answers of InvokeModel through provisioned throughput: the share that is right."""
    arn = bedrock.create_provisioned_model_throughput(modelUnits=1, provisionedModelName=name, modelId=name)[
        "provisionedModelArn"
    ]
    while (status := bedrock.get_provisioned_model_throughput(provisionedModelId=arn)["status"]) == "Creating":
        time.sleep(0.5)
    if status != "InService":
        raise SystemExit(f"the throughput is {status}")
    runtime = boto3.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 20, "mode": "standard"}))
    records = [json.loads(line) for line in test.read_text().splitlines()]
    correct = 0
    for record in records:
        asked = {"inputText": record["prompt"], "textGenerationConfig": {"temperature": 0, "maxTokenCount": 24}}
        answer = json.loads(runtime.invoke_model(modelId=arn, body=json.dumps(asked))["body"].read())
        correct += answer["results"][0]["outputText"].strip() == record["completion"].strip()
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    return correct / len(records)


def theirs(data: Path, home: Path, settings: dict[str, Any], rival: str) -> dict[str, Any]:
    """One run of TRL in a process of its own."""
    out = home / f"trl-{settings['seed']}"
    out.mkdir(parents=True)
    base = str(Catalog.load().weights_folder(WEIGHTS))
    script = str(RIVALS / "trl_train.py")
    subprocess.run([rival, script, base, str(home / "shard"), str(out), json.dumps(settings)], check=True)
    result = json.loads((out / "result.json").read_text())
    return {
        "seed": settings["seed"],
        "training_loss": result["losses"][-1],
        "accuracy": _judged(out / "weights", data / "test.jsonl", home, rival),
    }


def _judged(adapter: Path, test: Path, home: Path, rival: str) -> float:
    """Accuracy of a PEFT adapter by plain transformers and PEFT."""
    out = home / "judged.json"
    base = str(Catalog.load().weights_folder(WEIGHTS))
    command = [rival, str(RIVALS / "accuracy.py"), base, str(adapter), str(test), str(out)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    found: float = json.loads(out.read_text())["accuracy"]
    return found


def settings_for(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What both sides are told; the peer's rate is what the service makes of Titan's for the bundled base."""
    catalog = Catalog.load()
    row = catalog.find(MODEL)
    assert row is not None
    rate, _ = catalog.effective_learning_rate(row, "lora", options.learning_rate, WEIGHTS)
    examples = len((options.data / "train.jsonl").read_text("utf-8").splitlines())
    steps = -(-examples // options.batch_size) * options.epochs
    rate = rate_over(rate, catalog.rates_of(WEIGHTS).learning_rate_steps.get("lora"), steps)
    return {
        "epochs": options.epochs, "batch_size": options.batch_size, "seed": seed,
        "titan_learning_rate": options.learning_rate, "learning_rate": rate, "warmup_steps": WARMUP,
        "beta2": BETAS[1], "rank": RANK, "alpha": ALPHA, "dtype": DTYPE, "method": "lora", "shuffle": True,
        "checkpointing": False,
    }  # fmt: skip


def told(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of all runs of a file."""
    return settings_for(options, options.seeds[0]) | {"seed": "each run's own"}


def earlier(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The runs that the file holds; runs of other settings have no common mean, and are not mixed with these."""
    if not options.out.exists():
        return {}
    document = json.loads(options.out.read_text())
    if document["settings"] != told(options):
        raise SystemExit(f"{options.out} holds runs of other settings: name another file by --out, or remove it")
    found: dict[str, list[dict[str, Any]]] = document["runs"]
    return found


def summary(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> dict[str, Any]:
    """The file's content."""
    means = {side: statistics.mean(run["accuracy"] for run in found) for side, found in runs.items() if found}
    return {
        "what": "banking77: exact match of the intent on 3,080 unseen questions, greedy",
        "settings": told(options),
        "machine": machine("outcrop", "torch", "transformers", "peft"),
        "rivals": (RIVALS / "requirements.txt").read_text().splitlines()[3:],
        "mean_accuracy": means,
        "runs": runs,
    }


def main() -> None:
    """Run both sides, seed by seed, alternating."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rivals", type=Path, required=True, help="Python of the rivals' environment")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-5, help="as Titan counts it (default 1e-5)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", choices=["outcrop", "trl+peft"], default=["outcrop", "trl+peft"])
    parser.add_argument(
        "--out", type=Path, default=RESULT, help="runs of these settings that it holds are not done again"
    )
    options = parser.parse_args()
    # For both sides: on a machine that does other things too, threads that spin for each other cost ten times the time.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    rival = str(options.rivals.absolute())
    runs: dict[str, list[dict[str, Any]]] = {"outcrop": [], "trl+peft": [], **earlier(options)}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        encoder = Encoder.read(Catalog.load().weights_folder(WEIGHTS))
        refused = write_shard(options.data / "train.jsonl", "prompt-completion", encoder, home / "shard", print)
        assert not refused
        directory = DataDirectory(home / "data")
        with served(directory) as running:
            point_boto3_at(directory, running.endpoint)
            s3 = boto3.client("s3")
            s3.create_bucket(Bucket="banking77")
            s3.upload_file(str(options.data / "train.jsonl"), "banking77", "train.jsonl")
            for seed in options.seeds:
                settings = settings_for(options, seed)
                for side in options.sides:
                    if any(done["seed"] == seed for done in runs[side]):
                        continue
                    run = ours if side == "outcrop" else theirs
                    place = home / "data" if side == "outcrop" else home
                    runs[side].append(run(options.data, place, settings, rival))
                    print(side, runs[side][-1], flush=True)
                    content = json.dumps(summary(runs, options), indent=2)
                    options.out.write_text(content + "\n")


if __name__ == "__main__":
    main()
