"""Datasets for people: recording, mixing, looking into, importing and exporting them."""
