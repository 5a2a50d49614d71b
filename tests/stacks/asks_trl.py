"""TRL's GRPOTrainer computes rewards with a blocking and an awaited function."""

from datasets import Dataset
from documented import MESSAGES, QUESTION, SOLUTIONS, answer, run, url_argument

more = {"use_cpu": True, "bf16": False, "model_init_kwargs": {"dtype": "float32"}, "per_device_train_batch_size": 4}
dataset = Dataset.from_list([{"prompt": QUESTION}] * 4)
trainer = run("TRL", url_argument(), dataset=dataset, more=more)["trainer"]
count = len(SOLUTIONS)
rows = [{"prompt": QUESTION}] * count
rewards = trainer._calculate_rewards(rows, [QUESTION] * count, SOLUTIONS, [[1]] * count)
extra = {name: list(values) for name, values in trainer._pending_extra_logs.items()}
metrics = {name: list(values) for name, values in trainer._pending_metrics.items()}
chats = [[{"role": "assistant", "content": solution}] for solution in SOLUTIONS]
of_messages = trainer._calculate_rewards([{"prompt": MESSAGES}] * count, [MESSAGES] * count, chats, [[1]] * count)
answer(rewards=rewards.tolist(), extra=extra, metrics=metrics, of_messages=of_messages.tolist())
