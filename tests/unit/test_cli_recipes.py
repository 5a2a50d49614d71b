"""`vllm-prm recipes --new` and `--try`: what is written, asked and shown, on real tokenizers, files and terminals."""

from __future__ import annotations

import codecs
import io
import json
import os
import pty
import re
import select
import shlex
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
import vocabularies
from conftest import TINY_PRM
from documentation import block_of
from test_judge import THINKS, qwen
from wire import RECIPE, expected, speaking

from vllm_prm import load_recipe
from vllm_prm.cli import main
from vllm_prm.cli.tryout import QUESTION, STEPS

COLOURS = re.compile(r"\033\[[0-9;]*m")
TINY_BY_FLAGS = ["--tag", "ки", "--good", "+", "--bad", "-", "--model", TINY_PRM]


@cache
def saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory):
    return saved(vocabularies.qwen25(), tmp_path_factory.mktemp("tokenizers") / "qwen")


@pytest.fixture
def recipes(tmp_path, capsys, monkeypatch):
    """recipes(*words) -> (exit status, stdout, stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status = main(["recipes", *words])
        return status, *capsys.readouterr()

    return run


class Typist:
    """Somebody at a terminal, whose command runs meanwhile in a thread of this process."""

    def __init__(self, monkeypatch):
        self._master, slave = pty.openpty()
        self._streams = [os.fdopen(os.dup(slave), mode, encoding="utf-8") for mode in ("r", "w", "w")]
        os.close(slave)
        self._monkeypatch = monkeypatch
        self.seen, self.status = "", None
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def run(self, words, answers=()):
        """answers: (the end of what is asked, what is typed then), in order. Returns all that the terminal showed."""
        for name, stream in zip(("stdin", "stdout", "stderr"), self._streams, strict=True):
            self._monkeypatch.setattr(sys, name, stream)  # here, because pytest sets them between fixture and test
        thread = threading.Thread(target=self._run, args=(words,), daemon=True)
        thread.start()
        for asked, typed in answers:
            self._read_until(asked)
            os.write(self._master, typed.encode() + b"\n")
        self._read_until("\0")
        thread.join(30)
        assert not thread.is_alive()
        return self.seen.replace("\r\n", "\n").rstrip("\0")

    def _run(self, words):
        self.status = main(words)
        self._streams[1].flush()
        self._streams[2].write("\0")
        self._streams[2].flush()

    def _read_until(self, end):
        start = len(self.seen)
        while end not in self.seen[start:]:
            assert select.select([self._master], [], [], 20)[0], f"{end!r} never came, only {self.seen!r}"
            self.seen += self._decoder.decode(os.read(self._master, 4096))


@pytest.fixture
def typist(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Typist(monkeypatch)


def written(path):
    return json.loads(Path(path).read_text("utf-8"))


def test_new_by_flags(recipes):
    """The tag's token has a space in it, so that it is written after one."""
    status, out, _ = recipes("--new", "mine.json", *TINY_BY_FLAGS, "--step-format", "Step {k}: {step}")
    assert status == 0
    assert "note  the tag is written ' ки': without the space it merges" in out
    assert f"vllm-prm recipes --try mine.json --model {TINY_PRM}" in out
    assert f"vllm serve {TINY_PRM} --task embed --prm mine.json" in out
    fields = written("mine.json")
    assert fields["name"] == "mine"
    assert fields["step_tag"] == {"piece": "▁ки", "id": 318}
    assert fields["scoring_tokens"] == {
        "good": {"piece": "▁+", "id": 332, "weight": 1.0},
        "bad": {"piece": "▁-", "id": 333, "weight": 0.0},
    }
    prompt = {"kind": "raw", "question": "{question}\n", "step": "Step {k}: {step}", "tag": " ки"}
    assert fields["prompt"] == prompt
    assert recipes("--check", "mine.json")[0] == 0
    status, out, _ = recipes("--try", "mine.json", "--model", TINY_PRM)
    assert status == 0
    assert "2 of them read" in out


def test_new_before_the_tag_in_turns(recipes, qwen_folder):
    words = ["--tag", "+", "--good", "+", "--bad", "-", "--kind", "turns", "--read", "before"]
    assert recipes("--new", "turns.json", *words, "--model", qwen_folder)[0] == 0
    recipe = load_recipe("turns.json")
    assert (recipe.offset, recipe.prompt_format.kind) == (-1, "turns")
    _, out, _ = recipes("--try", "turns.json", "--model", qwen_folder, "--steps", "a + b")
    assert "read     the token before '+' (10)" in out
    assert "⟦↵⟧\n|+|<|im_end|>" in out


def test_new_without_a_tokenizer_takes_pieces(recipes):
    assert recipes("--new", "mine.json", "--tag", "▁ки", "--good", "▁+", "--bad", "▁-")[0] == 0
    assert load_recipe("mine.json").step_tag[0].piece == "▁ки"


def test_new_judge(recipes, qwen_folder):
    words = ["--new", "strict.json", "--kind", "judge", "--rubric", "Only proofs.", "--good", "+", "--bad", "-"]
    assert recipes(*words, "--model", qwen_folder)[0] == 0
    recipe = load_recipe("strict.json")
    assert recipe.prompt_format.rubric == "Only proofs."
    assert "Answer with one word, + or -." in recipe.prompt_format.step
    _, out, _ = recipes("--try", "strict.json", "--model", qwen_folder)
    assert "scores   yes '+' (10, weight 1), no '-' (12, weight 0); softmax" in out
    assert "where the model's answer begins, after '<|im_end|>\\n<|im_start|>assistant\\n'; one chat for all" in out
    assert recipes("--new", "plain.json", "--kind", "judge")[0] == 0
    assert written("plain.json") == {"base": "judge", "name": "plain"}


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--tag", "x"], 2, "--good, --bad missing, and there is no terminal to ask on; for example: vllm-prm recipes"),
        (["--good", "good", "--tag", "x", "--bad", "-"], 1, r"good token 'good' is 4 tokens in this vocabulary, \['g'"),
        (["--good", "YES", "--tag", "x", "--bad", "-"], 1, "score is read from one; single tokens like it: Y, Yes"),
        (["--good", "+", "--tag", "x", "--bad", "+"], 1, "names a piece twice among its scoring tokens"),
        (["--good", "+", "--tag", "", "--bad", "-"], 1, "tag is empty; give the text that ends a step"),
        (["--kind", "judge", "--rubric", "{step}"], 1, r"rubric holds \{step\}"),
        (["--kind", "judge", "--good", "Perhaps", "--bad", "No"], 1, "no word for its 'yes' token is a single token"),
    ],
)
def test_new_says_what_to_do(recipes, qwen_folder, words, status, message):
    found, _, err = recipes("--new", "mine.json", *words, "--model", qwen_folder)
    assert re.search(message, err), err
    assert (found, os.path.exists("mine.json")) == (status, False)


def test_new_of_a_tag_that_merges_with_a_full_stop(recipes, tmp_path_factory):
    """As a blank line does in the vocabularies of Llama 3 and Qwen; those who trained with it cut the text there."""
    backend = vocabularies._backend(None, {".\n\n": 382, "\n\n": 271}, {"<|end|>": 151643}, r"\p{N}")
    tokenizer = vocabularies._wrapped(backend, bos_token="<|end|>")
    folder = saved(tokenizer, tmp_path_factory.mktemp("tokenizers") / "full-stop")
    words = ["--tag", "\\n\\n", "--good", "+", "--bad", "-", "--model", folder]
    status, _, err = recipes("--new", "mine.json", *words)
    assert status == 2
    assert re.search(r"the tag '\\n\\n' after step 1 of 3 is not .* each on its own, the kind is segments", err), err
    assert recipes("--new", "mine.json", *words, "--kind", "segments")[0] == 0
    assert load_recipe("mine.json").step_tag[0].id == 271


def test_new_leaves_files_and_other_commands_alone(recipes):
    Path("mine.json").write_text("mine")
    status, _, err = recipes("--new", "mine.json", *TINY_BY_FLAGS)
    assert status == 2
    assert "mine.json is there already; give another name, or --overwrite" in err
    assert Path("mine.json").read_text("utf-8") == "mine"
    assert recipes("--new", "mine.json", *TINY_BY_FLAGS, "--overwrite")[0] == 0
    assert load_recipe("mine.json").name == "mine"
    assert "there is no folder nowhere" in recipes("--new", "nowhere/mine.json", *TINY_BY_FLAGS)[2]
    assert "--new and --try given; expected one of them" in recipes("--new", "a", "--try", "b")[2]
    assert "no tokenizer could be read from 'nowhere'" in recipes("--try", "judge", "--model", "nowhere")[2]


def test_new_asks_at_a_terminal(typist):
    """A kind there is none of, a token that is several, and Enter for what was answered before."""
    answers = [
        ("vocabulary pieces): ", TINY_PRM),
        ("judge [raw]: ", "rwa"),
        ("judge [raw]: ", ""),
        ("ки): ", ""),  # it has no default, so it is asked again
        ("ки): ", "ки"),
        ("before it [at]: ", "behind"),
        ("before it [at]: ", ""),
        ("example +): ", "good"),
        ("example -): ", "-"),
        ("[{question}\\n]: ", "{question} "),
        ("[{step}]: ", "Step {k}: {step}"),
        ("[raw]: ", ""),
        ("[ки]: ", ""),
        ("[at]: ", ""),
        ("[good]: ", "+"),
        ("[-]: ", ""),
        ("[{question} ]: ", ""),
        ("[Step {k}: {step}]: ", ""),
    ]
    seen = typist.run(["recipes", "--new", "mine.json"], answers)
    assert typist.status == 0, seen
    assert "'rwa' is none of raw, chat, turns, segments, judge" in seen
    assert "'behind' is none of at, before" in seen
    assert "That does not work: the good token 'good' is 4 tokens" in seen
    recipe = load_recipe("mine.json")
    tiny = load_recipe(str(RECIPE))
    assert (recipe.step_tag, recipe.scoring_tokens[0].id) == (tiny.step_tag, 332)
    assert recipe.prompt_format.question == "{question} "


def test_new_asks_a_judge_for_its_rubric_and_nothing_is_written_on_the_way_out(typist):
    answers = [("pieces): ", ""), ("[raw]: ", "judge"), ("rubric): ", "Be strict."), ("[Yes]: ", ""), ("[No]: ", "\4")]
    seen = typist.run(["recipes", "--new", "mine.json"], answers)
    assert typist.status == 2
    assert "the answers ended before the last question; nothing was written" in seen
    assert not os.path.exists("mine.json")


def test_try_shows_what_is_read(recipes):
    status, out, _ = recipes("--try", TINY_PRM, "--model", TINY_PRM)
    assert status == 0
    assert out.startswith(
        f"recipe   tiny-prm, by the tokenizer of {TINY_PRM}\n"
        "scores   good ' +' (332, weight 1), bad ' -' (333, weight 0); softmax\n"
        "read     the step tag ' ки' (318)\n"
    )
    assert "prompt: 37 tokens, 2 of them read" in out
    assert "|?| Step| 1|:| 12| +| 5| =| 17|⟦ ки⟧|↵\n|Step| 2|:| 17| -| 9| =| 7|⟦ ки⟧\n" in out
    assert "1     12 + 5 = 17  26  after  …? Step 1: 12 + 5 = 17 ки" in out
    assert out.endswith("scores: add --score (starts vLLM here) or --server URL (asks one that runs)\n")
    own = ["--question", "One?", "--solution", "Step 1: 1 + 1 = 2 ки\nStep 2: 2 + 2 = 4 ки\nStep 3: 4"]
    _, out, _ = recipes("--try", TINY_PRM, "--model", TINY_PRM, *own)
    assert out.count("⟦ ки⟧") == 3
    assert "\033" not in out


def test_try_of_a_chat_per_step(recipes, tmp_path_factory):
    folder = saved(qwen(THINKS), tmp_path_factory.mktemp("tokenizers") / "thinks")
    _, out, _ = recipes("--try", "judge", "--model", folder)
    assert "one chat per step" in out
    assert "prompt 1 of 2: " in out
    assert "prompt 2 of 2: " in out
    assert out.count("⟦↵↵⟧") == 2  # the empty thought ends in a blank line


def test_try_of_a_recipe_that_asks_again(recipes, qwen_folder):
    _, out, _ = recipes("--try", "genprm", "--model", qwen_folder)
    assert "(the next prompts hold what the model answers to this one)" in out
    assert "(asked later)" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--model", TINY_PRM, "--steps", "day.", "", "b"], 2, "step 2 .*is empty"),
        (["--model", TINY_PRM, "--steps", "a", "--solution", "b"], 2, "both --steps and --solution given"),
        (["--model", TINY_PRM, "--score", "--server", "http://localhost:1"], 2, "both --score and --server given"),
        (["--model", TINY_PRM, "--server", "http://localhost:1"], 2, "does not answer .*; is it up"),
        ([], 2, "--try needs a tokenizer: add --model"),
    ],
)
def test_try_says_what_to_do(recipes, words, status, message):
    found, _, err = recipes("--try", TINY_PRM, *words)
    assert re.search(message, err), err
    assert found == status


def test_try_of_a_recipe_that_does_not_fit(recipes):
    assert "step tag '▁ки' has id 318" in recipes("--try", "math-shepherd", "--model", TINY_PRM)[2]
    glued = {**json.loads(RECIPE.read_text("utf-8")), "prompt": {"kind": "raw", "tag": "ки"}}
    status, _, err = recipes("--try", json.dumps(glued), "--model", TINY_PRM)
    assert status == 2
    assert "the tag 'ки' after step 1 of 2 is not the step tag [318]" in err


def test_try_asks_a_server_that_reads_the_same_recipe(recipes):
    with speaking() as (url, _):
        status, out, _ = recipes("--try", str(RECIPE), "--model", TINY_PRM, "--server", url)
        assert status == 0
        scores = expected(list(STEPS))
        for score, (good, bad) in zip(scores.step_scores, scores.probabilities, strict=True):
            assert f"{score:.4f}  {good:.4f}   {bad:.4f}" in out
        assert f"min {min(scores.step_scores):.4f}, first wrong step: 1" in out
        status, _, err = recipes("--try", "lets-verify.json", "--model", TINY_PRM, "--server", url)
        other = json.dumps({**json.loads(RECIPE.read_text("utf-8")), "name": "other"})
        status, _, err = recipes("--try", other, "--model", TINY_PRM, "--server", url)
    assert status == 2
    assert f"{url} reads the recipe 'tiny-prm' and not this one; serve with --prm" in err


def test_colour_on_a_terminal_only(typist):
    seen = typist.run(["recipes", "--try", TINY_PRM, "--model", TINY_PRM])
    assert typist.status == 0
    assert seen.count("\033[1;30;42m ки\033[0m") == 2
    assert "⟦" not in seen
    assert f"{QUESTION} Step 1: 12 + 5 = 17 ки↵\nStep 2: 17 - 9 = 7 ки\n" in COLOURS.sub("", seen).replace("<s> ", "")


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colour(typist, monkeypatch, variable):
    monkeypatch.setenv(*variable)
    seen = typist.run(["recipes", "--try", TINY_PRM, "--model", TINY_PRM])
    assert "\033" not in seen
    assert seen.count("⟦ ки⟧") == 2


def test_the_documented_minute(recipes):
    """docs/recipes.md: its flags, and what --try prints."""
    flags, tried = (
        block_of("docs/recipes.md", start).text.replace("examples/tiny-prm", TINY_PRM).replace("\\\n", "")
        for start in ("vllm-prm recipes --new", "$ vllm-prm recipes --try")
    )
    assert recipes(*shlex.split(flags)[2:])[0] == 0
    command, _, shown = tried.partition("\n")
    _, out, _ = recipes(*shlex.split(command)[3:])
    assert out == shown


def test_the_documented_questions(typist):
    """What docs/recipes.md shows of a terminal: questions end in ): or ]:, and what is typed stands behind them."""
    shown = block_of("docs/recipes.md", "$ vllm-prm recipes --new").text.replace("examples/tiny-prm", TINY_PRM)
    command, _, shown = shown.replace("{question} (and a space)", "{question} ").partition("\n")
    answers = re.findall(r"^(.*?[\])]: )(.*)$", shown.replace("]:\n", "]: \n"), re.MULTILINE)
    assert len(answers) == 8
    seen = typist.run(shlex.split(command)[2:], answers)
    assert [line.rstrip() for line in seen.splitlines()] == [line.rstrip() for line in shown.splitlines()]
    assert load_recipe("my-prm.json").prompt_format.question == "{question} "


def test_shown_white_space_and_bytes(capsys):
    from vllm_prm.cli.shown import in_colour, tokens_shown

    assert tokens_shown(["Ċ", "ĉa", "Ð", "ĠÐºÐ¸"], {0, 3}, set(), colour=False) == "⟦↵⟧\n|⇥a|Ð|⟦ ки⟧"
    assert not in_colour(io.StringIO())
