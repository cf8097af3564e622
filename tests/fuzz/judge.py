"""What came of a call: right, a clear error, an obscure one, a wrong value, or a change of what it should leave."""

import re
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mixpyro
from mixpyro import MixtureOfExperts
from tests.fuzz.call import Call
from tests.fuzz.named_arguments import is_not_documented, names_no_argument
from tests.fuzz.odd_values import HostileError
from tests.fuzz.relations import unfitted, unrelated
from tests.fuzz.states import Picture, differences, global_state, picture

PACKAGE = str(Path(mixpyro.__file__).parent)
# Seconds of processor time.
SLOW = 5.0
# What a message may say without an argument in backticks, since the fault is in the whole of them.
GENERAL = (
    r"no run reached a finite bound",
    r"pip install",
    r"model file|checkpoint",
    r"must have ArviZ 1",
)
# What checks rows for the estimators of scikit-learn, in its own words.
VALIDATION = "sklearn/utils/validation.py"
DOCUMENTED = (TypeError, ValueError, RuntimeError, OSError, ImportError, NotImplementedError, KeyError, LookupError)


class Outcome(NamedTuple):
    """What came of one call."""

    name: str  # of the public function
    kind: str  # right, clear, obscure, wrong, slow or changed
    words: str  # of the error, or what is wrong
    place: str  # file and line of the package where the error came from
    case: str  # the call in words
    seconds: float = 0.0  # of processor time


def judged(call: Call) -> Outcome:
    """Make a call, and return what came of it.

    Args:
        call: which is made once.
    """
    held = {"owner": call.owner, "arguments": call.arguments, "positional": call.positional}
    before, everywhere = picture(held), global_state()
    mixture = unfitted(call)
    started = time.process_time()
    result, error = _called(call)
    seconds = time.process_time() - started
    place = "" if error is None else _place(error)
    # Before the result is looked at, which may call networks that draw.
    changed = differences(everywhere, global_state()) + _changed(call, before, picture(held), failed=error is not None)
    kind, words = _verdict(call, result, error, mixture)
    changed = [name for name in changed if not _is_allowed(call, name, error)]
    if changed and kind not in ("obscure", "wrong"):
        came = "after an error" if error is not None else "although nothing failed"
        kind, words = "changed", f"{came}: {', '.join(changed[:4])}"
    if seconds > SLOW and kind in ("right", "clear"):
        kind, words = "slow", f"{seconds:.1f} s"
    return Outcome(call.name, kind, words[:500], place, call.described(), seconds)


def _is_allowed(call: Call, name: str, error: BaseException | None) -> bool:
    """Return whether something may change: by a program of the user's, or where a call draws."""
    of_program = error is not None and call.registers and (_has_run_program(error) or _came_after_program(error))
    if name.startswith("parameter "):
        return call.registers or of_program
    if name == "random state of numpy":
        # None stands for the global random state wherever scikit-learn is spoken.
        return error is None and call.arguments.get("random_state", 0) is None
    if name == "random state of torch":
        return (call.draws and error is None) or of_program
    return call.registers and error is None and name.endswith("gradient")


def _called(call: Call) -> tuple[Any, BaseException | None]:
    """Return the result of a call, or its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = list(warnings.filters)
        failed: BaseException | None = None
        try:
            result = call()
            if isinstance(result, Iterator) and not hasattr(result, "__len__"):
                result = list(result)
        except Exception as error:
            result, failed = None, error
        if list(warnings.filters) != state:
            failed = failed or RuntimeError("the filters of warnings have changed")
    return result, failed


def _verdict(call: Call, result: Any, error: BaseException | None, mixture: MixtureOfExperts | None) -> tuple[str, str]:
    """Return the kind of an outcome without regard to changes, and the words for it."""
    if error is not None:
        return _of_error(call, error)
    try:
        wrong = call.check(result, call.arguments) or unrelated(call, result, mixture)
    except Exception as fault:
        wrong = [f"the result cannot be read: {fault!r}"]
    return ("wrong", "; ".join(wrong)) if wrong else ("right", "")


def _of_error(call: Call, error: BaseException) -> tuple[str, str]:
    """Return whether an error is clear, and its words."""
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, HostileError) or _is_of_program(error):
        return "clear", words
    if not call.replaced and not call.may_refuse:
        return "wrong", f"a right call has failed: {words}"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return "clear", words
    named = _names_an_argument(call, str(error)) and _is_own(error)
    clear = isinstance(error, DOCUMENTED) and (named or _is_of_validation(call, error))
    if not clear:
        return "obscure", words
    unclear = names_no_argument(call, error) + is_not_documented(call, error)
    return ("obscure", unclear[0]) if unclear else ("clear", words)


def _names_an_argument(call: Call, message: str) -> bool:
    """Return whether a message has something in backticks, or is one of the general ones."""
    return bool(re.search(r"`[^`]+`", message)) or any(re.search(words, message) for words in GENERAL)


def _is_own(error: BaseException) -> bool:
    """Return whether an error was raised by the package, or by what the user has given, rather than by a library."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith((PACKAGE, str(Path(__file__).parent)))


def _has_run_program(error: BaseException) -> bool:
    """Return whether a program of the user's was running when an error came."""
    return any(f.filename.endswith("targets/programs.py") for f in traceback.extract_tb(error.__traceback__))


def _came_after_program(error: BaseException) -> bool:
    """Return whether an error is of what a program of the user's has drawn: of log densities, or the loss."""
    explained = any(f.filename.endswith("explanations.py") for f in traceback.extract_tb(error.__traceback__)[-1:])
    return explained or _is_of_program(error) or "must give a finite loss" in str(error)


def _is_of_program(error: BaseException) -> bool:
    """Return whether an error comes from a program of the user's: a statement of it behind the package's last one."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if str(error).startswith('at site "'):  # Pyro says so of a site of the user's own
        return True
    ours = max((place for place, file in enumerate(files) if file.startswith(PACKAGE)), default=len(files))
    return any(file.endswith(("targets/programs.py", "poutine/trace_struct.py")) for file in files[ours:])


def _is_of_validation(call: Call, error: BaseException) -> bool:
    """Return whether an estimator was given rows that scikit-learn refuses in its own words."""
    frames = traceback.extract_tb(error.__traceback__)
    is_estimator = call.name.startswith(("MixtureOfExpertsRegressor", "MixtureOfExpertsClassifier", "BayesianMixture"))
    return is_estimator and any(frame.filename.endswith(VALIDATION) for frame in frames)


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame of the package."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    return f"{Path(frames[-1].filename).relative_to(PACKAGE)}:{frames[-1].lineno}" if frames else ""


def _changed(call: Call, before: Picture, after: Picture, *, failed: bool) -> list[str]:
    """Return what has changed of the owner and the arguments that should not have."""
    free = [f"['arguments']['{name}']" for name in call.adopts] + ["['owner']"] * call.changes
    return [path for path in differences(before, after) if failed or not path.startswith(tuple(free))]
