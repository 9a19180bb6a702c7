"""Ray: the stream of clips, the trainer, the sweep and the cluster. The only room that imports ray."""
