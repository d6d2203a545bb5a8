"""The fixture that users get from the plugin, also where the package is not installed."""

from llmcurl.testing.plugin import _mock_llm_defaults, _mock_llm_process, mock_llm

__all__ = ["_mock_llm_defaults", "_mock_llm_process", "mock_llm"]
