"""The pieces of the report's page: each module gives a section; ``page.css`` and ``page.js`` go inline."""
