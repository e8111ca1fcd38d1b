"""Chat templates in the manners that open weights are published with, each with a small tokenizer that fits it."""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = [
    "You are a clerk.",
    "Where is my parcel?",
    "It is on its way.",
    "Thank you very much",
    "返金できますか",
    "assistant user",
]


@dataclass(frozen=True, slots=True)
class Style:
    """A template and the control tokens that it writes."""

    template: str
    tokens: tuple[str, ...]
    end: str
    begin: str | None = None
    sentencepiece: bool = False
    """A tokenizer in the manner of Llama 2: a space before every text, bytes for what it does not know."""
    stops: tuple[str, ...] = ()
    """Further tokens of generation_config.json."""


CHATML = Style(
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
    "{%- else %}\n"
    "    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or (message.role == "
    "'assistant' and not message.tool_calls) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "{%- endif %}\n",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    end="<|im_end|>",
)

LLAMA3 = Style(
    "{{- bos_token }}\n"
    "{%- if not date_string is defined %}\n    {%- set date_string = '26 Jul 2024' %}\n{%- endif %}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n"
    "{%- else %}\n    {%- set system_message = '' %}\n{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n' }}\n"
    "{{- system_message }}\n{{- '<|eot_id|>' }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
    "'<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    end="<|end_of_text|>",
    begin="<|begin_of_text|>",
    stops=("<|end_of_text|>", "<|eot_id|>"),
)

MISTRAL = Style(
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    ("<unk>", "<s>", "</s>"),
    end="</s>",
    begin="<s>",
    sentencepiece=True,
)

MISTRAL_LATE_SYSTEM = Style(
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in turns %}{%- if message['role'] == 'user' %}"
    "{%- if loop.last and system is defined %}{{- '[INST]' + system + '\\n\\n' + message['content'] + '[/INST]' }}"
    "{%- elif loop.revindex0 == 1 and system is defined and turns[-1]['role'] == 'assistant' %}"
    "{{- '[INST]' + system + '\\n\\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST]' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- message['content'] + eos_token }}{%- endif %}{%- endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    end="</s>",
    begin="<s>",
)

GEMMA = Style(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
    ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    end="<eos>",
    begin="<bos>",
    stops=("<eos>", "<end_of_turn>"),
)

PHI = Style(
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    end="<|endoftext|>",
    stops=("<|end|>", "<|endoftext|>"),
)

THINKING = Style(
    "{%- set ns = namespace(last=messages|length - 1) %}{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{%- set content = message.content %}{%- set thought = '' %}"
    "{%- if '</think>' in content %}{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{%- if loop.index0 == ns.last %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}"
    "{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    end="<|im_end|>",
)

OPENED_THOUGHT = Style(
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
    "{% else %}{{ '<|Assistant|>' + message['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}",
    ("<s>", "</s>", "<|User|>", "<|Assistant|>"),
    end="</s>",
    begin="<s>",
)

MARKED = Style(
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% else %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
    end="<|endoftext|>",
)

NO_GENERATION_PROMPT = Style(
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}",
    ("</s>", "<|system|>", "<|user|>", "<|assistant|>"),
    end="</s>",
)

END_ONCE = Style(
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ 'A: ' + message['content'] }}"
    "{% if loop.last %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% else %}{{ 'Q: ' + message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A:' }}{% endif %}",
    ("</s>",),
    end="</s>",
)

ENDED_BY_THE_NEXT = Style(
    "[start]{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\\n' + message['content'] }}{% else %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
    ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
    end="<|endoftext|>",
    stops=("<|endoftext|>", "<|user|>"),
)

STYLES = {
    "chatml": CHATML,
    "llama 3": LLAMA3,
    "mistral": MISTRAL,
    "mistral, system prompt in the last turn": MISTRAL_LATE_SYSTEM,
    "gemma": GEMMA,
    "phi": PHI,
    "thoughts left out of earlier turns": THINKING,
    "prompt opens a thought": OPENED_THOUGHT,
    "marked generation": MARKED,
    "no generation prompt": NO_GENERATION_PROMPT,
    "end token after the last turn only": END_ONCE,
    "ended by the next turn": ENDED_BY_THE_NEXT,
}


def write(style: Style, folder: Path, **settings: object) -> Path:
    """The files of a tokenizer that carries this template; `settings` are further members of tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(
        models.BPE(byte_fallback=style.sentencepiece, unk_token="<unk>" if style.sentencepiece else None)
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if style.sentencepiece:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(style.tokens) + (alphabet if style.sentencepiece else []),
        initial_alphabet=[] if style.sentencepiece else alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    if style.begin is not None:
        place = [(style.begin, tokenizer.token_to_id(style.begin))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{style.begin} $A", special_tokens=place)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in style.tokens]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": style.end, "chat_template": style.template}
    if style.begin is not None:
        stated["bos_token"] = style.begin
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | settings))
    (folder / "config.json").write_text('{"max_position_embeddings": 256}')
    if style.stops:
        stops = [tokenizer.token_to_id(token) for token in style.stops]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    return folder
