"""Calls through a bare `openai` client as it comes, with httpx."""

from tests.benchmarks.caller_children.bare import main

if __name__ == "__main__":
    main(with_aiohttp=False)
