"""Cameras as they are: files, folders, streams and webcams in, frames out."""
