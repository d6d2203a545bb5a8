"""llmcurl as the transport of other HTTP clients, so that their SDKs run on it unchanged.

    import llmcurl.transports.httpx2
    http = openai.DefaultAsyncHttpxClient(transport=llmcurl.transports.httpx2.AsyncCurlTransport())

`httpx` and `httpx2` each need the package of their name; neither is imported here.
"""
