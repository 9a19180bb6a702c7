"""The lists that public data sets come with, a file for each family. They say what to index; nothing is downloaded."""
