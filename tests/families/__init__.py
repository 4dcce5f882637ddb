"""Tiny random models of many Hugging Face families, taken through a whole study and out of it again."""
