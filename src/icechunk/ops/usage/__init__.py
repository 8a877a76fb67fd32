"""Whose chunks they are: storage by array, by snapshot, by ref, and what a snapshot added."""
