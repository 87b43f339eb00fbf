"""The pieces of the report's page: each module gives one section as HTML; ``page.css`` and ``page.js`` go inline."""
