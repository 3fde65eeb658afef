"""The page that compare.py writes: ``entries.py`` finds what sample.py left, ``content.py`` says what is shown of it, one of
``groups.py`` at a time (with ``shelf.py`` and ``encode.py`` for pictures, ``tables.py`` and ``strips.py`` for figures), and
``write.py`` puts that into ``page.html`` with its style and script.
"""
