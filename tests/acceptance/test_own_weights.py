"""A person's own weights behind a Bedrock id: any Hugging Face decoder on disk, small random ones of two kinds here."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import outcrop
from tests.acceptance.server import Server

BASE = "amazon.titan-text-lite-v1"
BUNDLED = Path(outcrop.__file__).parent / "bases" / "text"


def make_weights(kind: str, folder: Path) -> Path:
    """A tiny random decoder with the bundled tokenizer, written by plain transformers."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**shape)) if kind == "qwen2" else LlamaForCausalLM(LlamaConfig(**shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of this test alone, as other weights change what every caller of the id gets."""
    server = Server(tmp_path / "data").start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


@pytest.mark.parametrize(("kind", "method"), [("llama", "full"), ("qwen2", "lora")])
def test_own_weights_train_and_serve(own: Server, pairs: Path, tmp_path: Path, kind: str, method: str) -> None:
    folder = make_weights(kind, tmp_path / kind)
    used = subprocess.run(
        [sys.executable, "-m", "outcrop.cli", "models", "use", BASE, str(folder), "--data", str(own.directory.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    session = boto3.Session()
    s3, bedrock, runtime = (session.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
    s3.create_bucket(Bucket="own")
    s3.upload_file(str(pairs), "own", "train.jsonl")
    name = f"own-{uuid.uuid4().hex[:8]}"
    arn = bedrock.create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn="arn:aws:iam::123456789012:role/BedrockCustomizationRole",
        baseModelIdentifier=BASE,
        trainingDataConfig={"s3Uri": "s3://own/train.jsonl"},
        outputDataConfig={"s3Uri": "s3://own"},
        hyperParameters={"epochCount": "1", "batchSize": "4", "method": method, "export": "true"},
    )["jobArn"]
    job = settled(lambda: bedrock.get_model_customization_job(jobIdentifier=arn), "InProgress")
    assert job["status"] == "Completed", job.get("failureMessage")

    root = f"model-customization-job-{arn.rsplit('/', 1)[-1]}/model/"
    keys = {item["Key"].removeprefix(root) for item in s3.list_objects_v2(Bucket="own", Prefix=root)["Contents"]}
    wanted = {"full": {"config.json", "tokenizer.json"}, "lora": {"adapter_config.json", "adapter_model.safetensors"}}
    assert wanted[method] | {"lineage.json"} <= keys
    lineage = s3.get_object(Bucket="own", Key=f"{root}lineage.json")["Body"].read().decode()
    assert str(folder) in lineage

    throughput = bedrock.create_provisioned_model_throughput(modelUnits=1, provisionedModelName=name, modelId=name)
    provisioned = throughput["provisionedModelArn"]
    answer = settled(lambda: bedrock.get_provisioned_model_throughput(provisionedModelId=provisioned), "Creating")
    assert answer["status"] == "InService", answer.get("failureMessage")
    body = json.dumps({"inputText": "Customer: hello\nAgent:", "textGenerationConfig": {"maxTokenCount": 8}})
    for model_id in (provisioned, BASE):
        said = json.loads(runtime.invoke_model(modelId=model_id, body=body)["body"].read())
        assert 0 < said["results"][0]["tokenCount"] <= 8


def settled(ask: Any, state: str) -> dict[str, Any]:
    """The first answer whose status is another one."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        answer: dict[str, Any] = ask()
        if answer["status"] != state:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"still {state}")
