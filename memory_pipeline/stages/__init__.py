"""What the pipeline does, as plain functions over stores and providers: worker and Dagster call the same ones."""
