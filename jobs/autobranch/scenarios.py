"""What is written about: the four scenarios, each a name and the prompt of its openings."""

from __future__ import annotations

STYLE = "Write only the opening of the story, in one paragraph. Be concrete, and do not explain yourself."

SCENARIOS = {
    "ai-memory": f"An artificial mind finds a memory that it never recorded. {STYLE}",
    "lighthouse": f"The keeper of a lighthouse signs for a parcel that is addressed to the light. {STYLE}",
    "last-library": f"The last library on a moving train lends a book that has not been written yet. {STYLE}",
    "silent-city": f"A city wakes up to find that every sound now costs money. {STYLE}",
}
