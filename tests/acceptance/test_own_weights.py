"""A person's own weights behind a Bedrock id: any Hugging Face decoder, small random ones of three kinds here.

They come as a folder, from a bucket of the server itself, and from a small real hub; each is trained on and served.
"""

import json
import os
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
from tests.weights.hub_server import Hub, Repo, files_of
from tests.weights.vast import make_vast

BASE = "amazon.titan-text-lite-v1"
BUNDLED = Path(outcrop.__file__).parent / "bases" / "text"


def make_weights(kind: str, folder: Path) -> Path:
    """A tiny random decoder with the bundled tokenizer, written by plain transformers."""
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(BUNDLED)
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
    capped = {"head_dim": 16, "sliding_window": 8, "attn_logit_softcapping": 5.0, "pad_token_id": None}
    model: Any = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**shape)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**shape)),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**shape, **capped)),
    }[kind]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of these tests alone, as other weights change what every caller of the id gets."""
    server = Server(tmp_path_factory.mktemp("own-weights") / "data").start()
    yield server
    server.stop()


@pytest.fixture
def own(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, and this process as its customer's shell."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def hub() -> Iterator[Hub]:
    running = Hub().open()
    yield running
    running.close()


def brought(way: str, folder: Path, hub: Hub) -> str:
    """The name under which these weights can be had this way."""
    if way == "hub":
        hub.repos["house/small"] = Repo(files_of(folder))
        return "hf:house/small"
    if way == "bucket":
        s3 = boto3.Session().client("s3")
        s3.create_bucket(Bucket="weights")
        for path in folder.iterdir():
            s3.upload_file(str(path), "weights", f"mine/{path.name}")
        return "s3://weights/mine"
    return str(folder)


def use(own: Server, name: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """outcrop models use, as a person types it beside the running server."""
    return subprocess.run(
        [sys.executable, "-m", "outcrop.cli", "models", "use", BASE, name, "--data", str(own.directory.root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def create(own: Server, pairs: Path, **hyper: str) -> str:
    """A job on the base, by boto3; returns its ARN."""
    session = boto3.Session()
    s3, bedrock = session.client("s3"), session.client("bedrock")
    s3.create_bucket(Bucket="own")
    s3.upload_file(str(pairs), "own", "train.jsonl")
    name = f"own-{uuid.uuid4().hex[:8]}"
    answer = bedrock.create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn="arn:aws:iam::123456789012:role/BedrockCustomizationRole",
        baseModelIdentifier=BASE,
        trainingDataConfig={"s3Uri": "s3://own/train.jsonl"},
        outputDataConfig={"s3Uri": "s3://own"},
        hyperParameters={"epochCount": "1", "batchSize": "4", **hyper},
    )
    return str(answer["jobArn"])


@pytest.mark.parametrize(
    ("kind", "method", "way"), [("llama", "full", "folder"), ("qwen2", "lora", "bucket"), ("gemma2", "lora", "hub")]
)
def test_own_weights_train_and_serve(  # noqa: PLR0917
    own: Server, hub: Hub, pairs: Path, tmp_path: Path, kind: str, method: str, way: str
) -> None:
    given = brought(way, make_weights(kind, tmp_path / kind), hub)
    used = use(own, given, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    assert used.returncode == 0, used.stderr
    session = boto3.Session()
    s3, bedrock, runtime = (session.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
    arn = create(own, pairs, method=method, export="true")
    job = settled(lambda: bedrock.get_model_customization_job(jobIdentifier=arn), "InProgress")
    assert job["status"] == "Completed", job.get("failureMessage")

    root = f"model-customization-job-{arn.rsplit('/', 1)[-1]}/model/"
    keys = {item["Key"].removeprefix(root) for item in s3.list_objects_v2(Bucket="own", Prefix=root)["Contents"]}
    wanted = {"full": {"config.json", "tokenizer.json"}, "lora": {"adapter_config.json", "adapter_model.safetensors"}}
    assert wanted[method] | {"lineage.json"} <= keys
    lineage = s3.get_object(Bucket="own", Key=f"{root}lineage.json")["Body"].read().decode()
    pinned = {"folder": given, "bucket": f"{given}#", "hub": f"{given}@{'c0ffee00' * 5}"}[way]
    assert pinned in lineage

    name = bedrock.get_model_customization_job(jobIdentifier=arn)["jobName"]
    throughput = bedrock.create_provisioned_model_throughput(modelUnits=1, provisionedModelName=name, modelId=name)
    provisioned = throughput["provisionedModelArn"]
    answer = settled(lambda: bedrock.get_provisioned_model_throughput(provisionedModelId=provisioned), "Creating")
    assert answer["status"] == "InService", answer.get("failureMessage")
    body = json.dumps({"inputText": "Customer: hello\nAgent:", "textGenerationConfig": {"maxTokenCount": 8}})
    for model_id in (provisioned, BASE):
        said = json.loads(runtime.invoke_model(modelId=model_id, body=body)["body"].read())
        assert 0 < said["results"][0]["tokenCount"] <= 8
    bedrock.delete_provisioned_model_throughput(provisionedModelId=provisioned)


def test_too_little_memory_is_the_jobs_failure_message(own: Server, pairs: Path, tmp_path: Path) -> None:
    # They were small when they were chosen: whoever owns a folder may change what lies in it.
    folder = make_weights("llama", tmp_path / "mine")
    assert use(own, str(folder)).returncode == 0
    vast = make_vast(tmp_path / "vast", BUNDLED, 4 * 10**11)
    (vast / "model.safetensors").rename(folder / "model.safetensors")
    bedrock = boto3.Session().client("bedrock")
    arn = create(own, pairs)
    job = settled(lambda: bedrock.get_model_customization_job(jobIdentifier=arn), "InProgress")
    assert job["status"] == "Failed"
    message = job["failureMessage"]
    assert message.startswith(f"Too little memory: to train a LoRA adapter of {folder} takes at least ")
    assert "What helps: smaller weights (`outcrop models use`)" in message


def settled(ask: Any, state: str) -> dict[str, Any]:
    """The first answer whose status is another one."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        answer: dict[str, Any] = ask()
        if answer["status"] != state:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"still {state}")
