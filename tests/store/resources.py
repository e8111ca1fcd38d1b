"""Resources for the store's tests: plain records with every field that the store reads."""

from datetime import UTC, datetime, timedelta
from typing import Any

from outcrop.records import Deployment, Job, Model, Throughput

REGION = "us-east-1"
ACCOUNT = "123456789012"
LONG_ID = "amazon.titan-text-express-v1:0:8k"
BASE_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/{LONG_ID}"
START = datetime(2026, 5, 1, 12, 0, 0, 123000, UTC)


def at(seconds: float) -> datetime:
    """An instant some seconds after the start of the story."""
    return START + timedelta(seconds=seconds)


def job(number: int = 1, *, region: str = REGION, name: str | None = None, **request: Any) -> Job:
    """A fresh job whose id, name and model's name carry its number."""
    job_id = f"job{number:09d}"
    return Job(
        arn=f"arn:aws:bedrock:{region}:{ACCOUNT}:model-customization-job/{LONG_ID}/{job_id}",
        id=job_id,
        name=name or f"job-{number}",
        region=region,
        status="InProgress",
        base_model_id=LONG_ID,
        request={
            "customModelName": f"model-{number}",
            "baseModelIdentifier": BASE_ARN,
            "hyperParameters": {"epochCount": "3"},
            "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
            "validationDataConfig": {"validators": []},
            "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
            "customizationType": "FINE_TUNING",
            **request,
        },
        created=at(number),
        modified=at(number),
    )


def model(number: int = 1, *, region: str = REGION) -> Model:
    """What the job of the same number leaves."""
    model_id = f"mod{number:09d}"
    return Model(
        arn=f"arn:aws:bedrock:{region}:{ACCOUNT}:custom-model/{LONG_ID}/{model_id}",
        id=model_id,
        name=f"model-{number}",
        region=region,
        status="Active",
        base_model_id=LONG_ID,
        job_arn=job(number, region=region).arn,
        document={},
        method="lora",
        base_weights="bundled:text",
        created=at(number + 100),
    )


def throughput(number: int = 1, *, region: str = REGION, model_arn: str = BASE_ARN, **fields: Any) -> Throughput:
    """A fresh throughput of one unit."""
    throughput_id = f"pt{number:010d}"
    values: dict[str, Any] = {
        "arn": f"arn:aws:bedrock:{region}:{ACCOUNT}:provisioned-model/{throughput_id}",
        "id": throughput_id,
        "name": f"pt-{number}",
        "region": region,
        "status": "Creating",
        "units": 1,
        "desired_units": 1,
        "model_arn": model_arn,
        "desired_model_arn": model_arn,
        "base_model_id": LONG_ID,
        "made_for": model_arn,
        "created": at(number),
        "modified": at(number),
    }
    return Throughput(**(values | fields))


def deployment(number: int = 1, *, region: str = REGION, model_arn: str | None = None, **fields: Any) -> Deployment:
    """A fresh deployment of the model of the same number."""
    deployment_id = f"dep{number:09d}"
    served = model_arn or model(number, region=region).arn
    values: dict[str, Any] = {
        "arn": f"arn:aws:bedrock:{region}:{ACCOUNT}:custom-model-deployment/{deployment_id}",
        "id": deployment_id,
        "name": f"deployment-{number}",
        "region": region,
        "status": "Creating",
        "model_arn": served,
        "desired_model_arn": served,
        "created": at(number),
        "modified": at(number),
    }
    return Deployment(**(values | fields))
