"""Adapters that stay loaded, asked over HTTP: `serve` listens and answers, `chat` writes, `requests` reads a body.

Conversations have the shape of OpenAI's API, so that its clients work; names and candidates have paths of their own.
"""
