"""The guide's own code, as it stands there: what a customer of Bedrock would run. Knows boto3 and nothing of ours."""

# The function below is the document's, to the letter; only its types and docstring are added.

import json
from collections.abc import Sequence
from typing import Any

import boto3


def evaluate_model(model_id: str, test_data: Sequence[dict[str, str]]) -> tuple[float, list[dict[str, Any]]]:
    """Ask the model every prompt; return the share of answers that hold the expected completion, and all answers."""
    runtime = boto3.client('bedrock-runtime')  # fmt: skip
    results = []

    for item in test_data:
        response = runtime.invoke_model(
            modelId=model_id,
            body=json.dumps({
                "inputText": item['prompt'],
                "textGenerationConfig": {"maxTokenCount": 256}
            })
        )  # fmt: skip
        output = json.loads(response['body'].read())  # fmt: skip
        predicted = output['results'][0]['outputText']  # fmt: skip

        results.append({
            'expected': item['completion'],
            'predicted': predicted,
            'match': item['completion'].lower() in predicted.lower()
        })  # fmt: skip

    accuracy = sum(1 for r in results if r['match']) / len(results)  # fmt: skip
    return accuracy, results
