"""The steps of the demo, one function each: what the guide's reader does, in its order, through plain boto3.

Knows boto3, the data directory (to show what a job is doing) and the screen; nothing of the rooms behind the API.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.exceptions import ClientError

from outcrop.errors import OutcropError

BUCKET: Final = "my-bucket"
ROLE: Final = "arn:aws:iam::{account}:role/BedrockCustomizationRole"
BASE: Final = "amazon.titan-text-express-v1"
THROUGHPUT_PREFIX: Final = "customer-service-pt"
HYPERPARAMETERS: Final = {"epochCount": "3", "batchSize": "8", "learningRate": "0.00001"}
"""The guide's own."""
POLL_SECONDS: Final = 0.2
SPLITS: Final = ("train", "validation", "test")
EVALUATION_SLICE: Final = 5


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job on its way."""

    arn: str
    model_name: str
    output: str
    """s3:// prefix of its files."""

    @property
    def id(self) -> str:
        """The job's 12 characters."""
        return self.arn.rsplit("/", 1)[-1]


def make_dataset(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Make the three splits with the project's own script and read them back."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(dataset_script()), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text("utf-8").splitlines()]
        for split in SPLITS
    }


def dataset_script() -> Path:
    """`examples/make_dataset.py` of a checkout, or the copy that a wheel carries."""
    package = importlib.util.find_spec("outcrop")
    if package is None or package.origin is None:
        raise OutcropError("outcrop is not installed as a package")
    root = Path(package.origin).parent
    for path in (root.parent / "examples" / "make_dataset.py", root / "demo" / "make_dataset.py"):
        if path.is_file():
            return path
    raise OutcropError(f"make_dataset.py is neither in {root.parent / 'examples'} nor in {root / 'demo'}")


def upload(folder: Path) -> None:
    """Put training and validation files into the bucket, as the guide does."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for split in ("train", "validation"):
        s3.upload_file(str(folder / f"{split}.jsonl"), BUCKET, f"training/{split}.jsonl")


def submit(stamp: str) -> Submitted:
    """Create the guide's customization job; the names carry a stamp, as a job's name stays taken for ever."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    model_name = f"customer-service-titan-{stamp}"
    response = boto3.client("bedrock").create_model_customization_job(
        jobName=f"customer-service-ft-{stamp}",
        customModelName=model_name,
        roleArn=ROLE.format(account=account),
        baseModelIdentifier=BASE,
        customizationType="FINE_TUNING",
        trainingDataConfig={"s3Uri": f"s3://{BUCKET}/training/train.jsonl"},
        validationDataConfig={"validators": [{"s3Uri": f"s3://{BUCKET}/training/validation.jsonl"}]},
        outputDataConfig={"s3Uri": f"s3://{BUCKET}/output/"},
        hyperParameters=HYPERPARAMETERS,
    )
    job = Submitted(arn=response["jobArn"], model_name=model_name, output="")
    return Submitted(job.arn, model_name, f"s3://{BUCKET}/output/model-customization-job-{job.id}/")


def follow(job: Submitted, tick: Callable[[], None]) -> dict[str, Any]:
    """Poll the job as every client does, calling `tick` each time; return its last answer when it is Completed."""
    bedrock = boto3.client("bedrock")
    while True:
        tick()
        answer: dict[str, Any] = bedrock.get_model_customization_job(jobIdentifier=job.arn)
        if answer["status"] == "Completed":
            tick()
            return answer
        if answer["status"] in ("Failed", "Stopped"):
            raise OutcropError(f"the job is {answer['status']}: {answer.get('failureMessage', 'no reason was given')}")
        time.sleep(POLL_SECONDS)


def provision(job: Submitted, stamp: str) -> str:
    """Put the custom model behind Provisioned Throughput and wait until it is InService; return its ARN."""
    bedrock = boto3.client("bedrock")
    _release_earlier(bedrock)
    arn: str = bedrock.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName=f"{THROUGHPUT_PREFIX}-{stamp}", modelId=job.model_name
    )["provisionedModelArn"]
    while True:
        answer = bedrock.get_provisioned_model_throughput(provisionedModelId=arn)
        if answer["status"] == "InService":
            return arn
        if answer["status"] == "Failed":
            raise OutcropError(f"Provisioned Throughput failed: {answer.get('failureMessage')}")
        time.sleep(POLL_SECONDS)


def _release_earlier(bedrock: Any) -> None:
    """Delete the throughputs of earlier demos: each would keep its adapter loaded."""
    for page in bedrock.get_paginator("list_provisioned_model_throughputs").paginate(nameContains=THROUGHPUT_PREFIX):
        for summary in page["provisionedModelSummaries"]:
            try:
                bedrock.delete_provisioned_model_throughput(provisionedModelId=summary["provisionedModelArn"])
            except ClientError as refusal:
                # Another client was faster; anything else is worth stopping for.
                if refusal.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise


def slices(items: Sequence[dict[str, str]]) -> Iterator[Sequence[dict[str, str]]]:
    """The test set in small pieces, so that the evaluation can show how far it is."""
    for start in range(0, len(items), EVALUATION_SLICE):
        yield items[start : start + EVALUATION_SLICE]
