"""What the pipeline does, in order, as plain functions over stores and providers. Nothing here knows Dagster."""
