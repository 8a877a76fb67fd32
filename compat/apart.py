"""Steps that the two implementations answer differently on purpose, or where theirs is a defect.

Each rule takes the model as it is and a step that is about to be done, and says whether the step is
kept from both. What a rule keeps away is named in its docstring, with the reason; everything that
no rule names is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from model.edits import MergeRefusedError
from model.repository import Model, Session, Snapshot, Step
from model.values import is_below


def merges_that_depend_on_sight(model: Model, step: Step) -> bool:
    """Merges that are judged by what a fork could see of the edits of others.

    There the last merged chunk wins unnoticed, two forks' documents always exclude each other, a
    merge that fails half-way leaves what came before (see design note 5), and a fork of another
    session may create a node where the session has one already: the path has two nodes then.
    """
    if step["op"] != "merge":
        return False
    answers = []
    for is_blind in (False, True):
        try:
            edits = model.merged(step["session"], step["others"], is_blind=is_blind)
            answers.append(edits.documents | edits.written | edits.created | edits.deleted)
        except MergeRefusedError as reason:
            answers.append(None if len(step["others"]) == 1 else "half merged")
            if str(reason) in ("overlap", "unknown node", "created what the base has"):
                return True
    return answers[0] != answers[1] or "half merged" in answers


def merges_of_recreated_nodes(model: Model, step: Step) -> bool:
    """Merges of a deletion and of a creation at the same path, by two sessions.

    There the new node is taken for the deleted one when they are of one kind.
    """
    if step["op"] != "merge":
        return False
    numbers = [step["session"], *step["others"]]
    edits = {number: model.sessions[number].edits for number in numbers}
    gone = {
        (number, *deletion) for number in numbers for deletion in edits[number].deleted.values()
    }
    new = {
        (number, path, edits[number].documents[born].grid is not None)
        for number in numbers
        for path, born in edits[number].created.items()
    }
    return any(one != other and where == place for one, *where in gone for other, *place in new)


def deletions_of_main_when_closed(model: Model, step: Step) -> bool:
    """Deletions of main in a closed repository: two reasons to fail, looked at in another order."""
    return step["op"] == "delete_branch" and step["name"] == "main" and not model.is_online


def shifts_of_deleted_chunks(model: Model, step: Step) -> bool:
    """Shifts of an array in which chunks were deleted in the same session.

    There the deletions count as chunks that move, so that more is listed as touched.
    """
    if step["op"] != "shift":
        return False
    session = model.sessions[step["session"]]
    node = session.view.get(step["path"])
    written = {} if node is None else session.edits.written.get(node.born, {})
    return None in written.values()


def deletions_of_new_written_arrays(model: Model, step: Step) -> bool:
    """Deletions of an array that was created and written in the same session.

    There the session counts as changed although nothing is left of the array, so that even a commit
    of nothing succeeds.
    """
    if step["op"] != "delete":
        return False
    edits = model.sessions[step["session"]].edits
    return any(
        is_below(path, step["path"]) and born in edits.written
        for path, born in edits.created.items()
    )


def deletions_of_nothing_where_refused(model: Model, step: Step) -> bool:
    """Deletions of what is not there, in a session in which nothing may be deleted.

    There it depends on the call whether that is refused; here a read-only session refuses it.
    """
    if step["op"] not in ("delete", "erase"):
        return False
    work = model.sessions[step["session"]]
    if work.mode not in ("readonly", "rearrange"):
        return False
    return step["op"] == "erase" or step["path"] not in work.view


def deletions_of_chunks_cut_off(model: Model, step: Step) -> bool:
    """Deletions of a directory of chunks, some of which a smaller shape has cut off.

    There these are listed still, and then refused as outside the grid.
    """
    if step["op"] != "erase" or not step["by_directory"]:
        return False
    node = model.sessions[step["session"]].view.get(step["path"])
    return node is not None and node.is_array and len(node.inside()) < len(node.chunks)


def deletions_of_all_without_a_root(model: Model, step: Step) -> bool:
    """Deletions of the directory of the root, when there is no root group.

    There nothing is deleted; here all nodes are, since all of them are below.
    """
    if step["op"] != "delete" or step["path"]:
        return False
    return "" not in model.sessions[step["session"]].view


def deletions_below_arrays(model: Model, step: Step) -> bool:
    """Deletions of an array with nodes below it.

    There these stay.
    """
    if step["op"] != "delete":
        return False
    view = model.sessions[step["session"]].view
    arrays = [path for path, node in view.items() if node.is_array and is_below(path, step["path"])]
    return any(other != path and is_below(other, path) for path in arrays for other in view)


def moves_to_above_orphans(model: Model, step: Step) -> bool:
    """Moves to a place that has nodes below it, though it is empty itself.

    There these become invisible.
    """
    if step["op"] != "move":
        return False
    view = model.sessions[step["session"]].view
    return step["target"] not in view and any(is_below(path, step["target"]) for path in view)


def amends_with_two_reasons_to_fail(model: Model, step: Step) -> bool:
    """Amends of what must not be amended, by a session that was also overtaken or shut out.

    There the snapshot is looked at first, here the branch.
    """
    if step["op"] != "amend":
        return False
    work = model.sessions[step["session"]]
    if work.branch is None or work.base is None:
        return False
    is_barred = work.base == 0 or model.snapshots[work.base].log.moved
    return bool(is_barred) and (model.branches.get(work.branch) != work.base or not model.is_online)


def rebases_off_the_line(model: Model, step: Step) -> bool:
    """Rebases of a session whose base is not in the history of its branch any more.

    There the whole history is gone through, to where nothing that was edited may exist; edits of
    such nodes vanish.
    """
    work = _rebasing(model, step)
    return work is not None and not model.is_continuation(work)


def rebases_of_recreated_nodes(model: Model, step: Step) -> bool:
    """Rebases when both sides deleted and created the same path.

    There it is not noticed, and the path has two nodes.
    """
    work = _rebasing(model, step)
    if work is None:
        return False
    gone = {path for path, _ in work.edits.deleted.values()}
    return any(
        path in theirs.nodes and theirs.nodes[path].born not in work.edits.deleted
        for theirs in _unseen(model, work)
        for path in gone & work.edits.created.keys()
    )


def rebases_below_deleted_arrays(model: Model, step: Step) -> bool:
    """Rebases of nodes created below an array that the session itself deleted.

    There the array counts as if it were still to be there.
    """
    work = _rebasing(model, step)
    if work is None:
        return False
    gone = [path for path, is_array in work.edits.deleted.values() if is_array]
    return any(
        is_below(path, array) and path != array for path in work.edits.created for array in gone
    )


def rebases_of_moves_over_new_trees(model: Model, step: Step) -> bool:
    """Rebases of moves over commits that created or deleted nodes.

    There what the moves need or overwrite is not checked, and what is new below a moved group moves
    without being listed.
    """
    work = _rebasing(model, step)
    if work is None or not work.edits.moves:
        return False
    return any(theirs.log.changes_tree for theirs in _unseen(model, work))


def rebases_that_take_back_all_chunks(model: Model, step: Step) -> bool:
    """Rebases that prefer their chunks, all those that the session wrote in an array.

    There the array stays listed as written, without chunks, and the session counts as changed.
    """
    work = _rebasing(model, step)
    if work is None or step["solver"]["on_chunks"] != "UseTheirs":
        return False
    return any(
        written.keys()
        <= {c for theirs in _unseen(model, work) for c in theirs.log.written.get(born, ())}
        for born, written in work.edits.written.items()
    )


def _rebasing(model: Model, step: Step) -> Session | None:
    """Return the session that a step rebases, if it rebases one on something."""
    if step["op"] not in ("rebase", "commit") or step["solver"] is None:
        return None
    work = model.sessions[step["session"]]
    if work.branch not in model.branches or not step.get("tries", 1):
        return None
    return None if model.branches[work.branch] == work.base else work


def _unseen(model: Model, work: Session) -> list[Snapshot]:
    history = model.history(model.branches[work.branch or ""])
    return [model.snapshots[n] for n in itertools.takewhile(lambda n: n != work.base, history)]


def diffs_with_two_arrays_at_one_place(model: Model, step: Step) -> bool:
    """Diffs over an array that was written, deleted, and created and written again.

    Chunks are listed by path: there those of either array, at random; here of the one still there.
    """
    if step["op"] != "diff":
        return False
    snapshots = model.snapshots
    line = itertools.takewhile(lambda number: number != step["start"], model.history(step["end"]))
    written = {born for number in line for born in snapshots[number].log.written}
    ends = [snapshots[step[end]].nodes for end in ("start", "end")]
    places = {
        (node.born, path) for nodes in ends for path, node in nodes.items() if node.born in written
    }
    borns_at: dict[str, set[int]] = {}
    for born, path in places:
        borns_at.setdefault(path, set()).add(born)
    return any(len(borns) > 1 for borns in borns_at.values())


def diffs_over_several_moves(model: Model, step: Step) -> bool:
    """Diffs over commits of which several moved the same node.

    There every move is listed, here where the node went in the end.
    """
    if step["op"] != "diff":
        return False
    line = itertools.takewhile(lambda number: number != step["start"], model.history(step["end"]))
    moved = [born for number in line for born in model.snapshots[number].log.moved]
    return len(set(moved)) < len(moved)


RULES: tuple[Callable[[Model, Step], bool], ...] = (
    merges_that_depend_on_sight,
    merges_of_recreated_nodes,
    deletions_of_main_when_closed,
    shifts_of_deleted_chunks,
    deletions_of_new_written_arrays,
    deletions_of_nothing_where_refused,
    deletions_of_chunks_cut_off,
    deletions_of_all_without_a_root,
    deletions_below_arrays,
    moves_to_above_orphans,
    amends_with_two_reasons_to_fail,
    rebases_off_the_line,
    rebases_of_recreated_nodes,
    rebases_below_deleted_arrays,
    rebases_of_moves_over_new_trees,
    rebases_that_take_back_all_chunks,
    diffs_with_two_arrays_at_one_place,
    diffs_over_several_moves,
)


def reasons(model: Model, step: Step) -> Iterator[str]:
    """Name the rules that keep a step away."""
    session = model.sessions.get(step.get("session", -1))
    if "session" in step and session is None and step["op"] != "open_session":
        return
    for rule in RULES:
        if rule(model, step):
            yield rule.__name__
