"""Builds every architecture that vLLM registers, scores it, and writes docs/architectures.md.

The files, the lowest first; a file imports only what comes before it in this list:

sizes, entries                   the sizes of small configs; what the tables consist of
text, vision, audio, omni, multimodal
                                 the tables: an entry for each architecture that the sizes alone do not fit
architectures                    the tables joined, and the architectures that vLLM registers
config_classes, tokenizer        the parts of a small checkpoint
configs                          config.json of an architecture
small_engine                     an engine of such a checkpoint, its prompts, its answers
absent, rows, environment        stand-ins for libraries, rows of results, the engines' environment variables
score, generation                the two measures: against the model's whole head, and against a generation engine
worker, batches                  a measure in a process of its own, for many architectures
kinds, reasons                   what the document says in words
run, oracle, report              the commands: `make sweep` is run and report
numerics, check_cost             commands for the tables of docs/numerics.md
"""
