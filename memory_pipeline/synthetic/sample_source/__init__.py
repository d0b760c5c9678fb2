"""Where the bundled sample comes from: hand-written texts (`people/`, `smalltalk/`) and the script that weaves them.

`python -m memory_pipeline.synthetic.sample_source.weave` writes `sample.jsonl` anew; the same texts give the same
bytes. The texts are part of the repository, not of the installed package, which needs the finished file alone.
"""
