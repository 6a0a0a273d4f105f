"""Teachers that are language models: prompts, rules for their answers, a store that keeps every answer, and two kinds.

`local` runs a model of transformers here; `endpoint` asks any OpenAI-compatible chat-completions address.
"""
