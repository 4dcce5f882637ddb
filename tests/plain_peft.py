"""Scores an exported adapter with transformers and PEFT alone, as somebody who has never heard of us would.

Usage: plain_peft.py BASE ADAPTER PAIRS.json QUERY_LENGTH DOCUMENT_LENGTH
"""

import json
import math
import sys

import torch
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer

base, adapter, pairs_file, query_length, document_length = sys.argv[1:]
with open(pairs_file) as file:  # noqa: PTH123
    pairs = json.load(file)
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).eval()


def embed(texts: list[str], length: int) -> torch.Tensor:
    tokens = tokenizer(texts, truncation=True, max_length=length, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


queries = embed([query for query, _ in pairs], int(query_length))
documents = embed([document for _, document in pairs], int(document_length))
similarities = queries @ documents.T
ranks = 1 + (similarities > similarities.diag()[:, None]).sum(1)
gains = [1 / math.log2(1 + int(rank)) if rank <= 10 else 0.0 for rank in ranks]
parameters = sum(tensor.numel() for name, tensor in model.named_parameters() if "lora_" in name)
assert "rank_search" not in sys.modules
print(json.dumps({"score": sum(gains) / len(gains), "trainable_parameters": parameters}))
