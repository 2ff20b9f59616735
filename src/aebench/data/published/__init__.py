"""Readers of data sets in the forms in which their authors published them.

The content of a file is verified before it comes here. What it unpacks to is bounded all the same, and nothing is
unpickled. A reader raises whatever it likes where a file is not as it should be; `fetch` makes a line of it.
"""
