"""gRPC: messages of ``portico.protos`` -> generations, events -> messages. Pure: no channels, no servers.

vllm_engine       VllmEngine: token ids in, token ids out
inference         portico.v1.Inference: conversations and texts in, events out
tokenizer_files   a tokenizer as the zip file that VllmEngine's clients fetch
status            errors as gRPC status codes
"""
