"""The vLLM engine: its settings, the environment that it runs in and how that is installed, its process and its client.
Speaks to vLLM over HTTP and imports nothing of it. Imports core.
"""
