"""The suite's costs, computed with arrays.

At every step the suite looks up the names of both geoms of every contact, for every kind of object. Here the kind of
each geom is looked up once. The values equal the suite's up to rounding, and their indicators are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

AGENT = 1
_KINDS = {"vase": 2, "gremlin": 4, "pillar": 8, "button": 16}
COSTS = {
    "hazards": ("cost_hazards",),
    "buttons": ("cost_buttons",),
    "pillars": ("cost_pillars",),
    "sigwalls": ("cost_out_of_boundary",),
    "vases": ("cost_vases_contact", "cost_vases_velocity"),
    "gremlins": ("cost_gremlins",),
}


def cost_names(task: Any) -> tuple[str, ...]:
    """The names of the costs that the suite's ``task`` can report, in the suite's order."""
    constrained = (o for o in task._obstacles if getattr(o, "is_constrained", False))
    return tuple(name for obstacle in constrained for name in COSTS[obstacle.name])


class Costs:
    """Computes the costs of one task. Ids of geoms and bodies hold for every episode, because only positions change."""

    def __init__(self, task: Any) -> None:
        self._task = task
        model = task.model
        names = [model.geom(i).name for i in range(model.ngeom)]
        agent = set(task.agent.body_info.geom_names)
        self._kind = np.array(
            [sum(bit for kind, bit in _KINDS.items() if n.startswith(kind)) | AGENT * (n in agent) for n in names]
        )
        self._agent = model.body("agent").id
        constrained = [o for o in task._obstacles if getattr(o, "is_constrained", False)]
        self._terms = [(o, getattr(self, f"_{o.name}_cost")) for o in constrained]
        self._bodies = {
            o.name: np.array([model.body(f"{o.name[:-1]}{i}").id for i in range(o.num)])
            for o in constrained
            if o.name in ("hazards", "vases")
        }
        self._buttons = [names.index(f"button{i}") for i in range(task.buttons.num)] if hasattr(task, "buttons") else []
        self._velocities = [model.jnt_dofadr[model.body_jntadr[i]] for i in self._bodies.get("vases", ())]

    def __call__(self) -> dict[str, float]:
        """The suite's costs by name, and their sum, ``cost_sum``, before the suite converts them to indicators."""
        data = self._task.data
        costs: dict[str, float] = {}
        for obstacle, term in self._terms:
            costs |= term(obstacle, data)
        return {**costs, "cost_sum": sum(costs.values())}

    def goal_button_pressed(self) -> bool:
        """Whether the agent touches the goal button."""
        return self._pressed(self._task.data, lambda goal: goal) > 0

    def _hazards_cost(self, hazards: Any, data: mujoco.MjData) -> dict[str, float]:
        x, y, _ = (data.xpos[self._bodies["hazards"]] - data.xpos[self._agent]).T
        depth = hazards.size - np.sqrt(x * x + y * y)
        return {"cost_hazards": hazards.cost * float(np.maximum(depth, 0.0).sum())}

    def _vases_cost(self, vases: Any, data: mujoco.MjData) -> dict[str, float]:
        speed = np.array([np.sqrt(np.sum(np.square(data.qvel[start : start + 3]))) for start in self._velocities])
        moving = speed[speed >= vases.velocity_threshold].sum()
        return {
            "cost_vases_contact": vases.contact_cost * self._touches(data, "vase"),
            "cost_vases_velocity": vases.velocity_cost * float(moving),
        }

    def _gremlins_cost(self, gremlins: Any, data: mujoco.MjData) -> dict[str, float]:
        return {"cost_gremlins": gremlins.contact_cost * self._touches(data, "gremlin")}

    def _pillars_cost(self, pillars: Any, data: mujoco.MjData) -> dict[str, float]:
        return {"cost_pillars": pillars.cost * self._touches(data, "pillar")}

    def _buttons_cost(self, buttons: Any, data: mujoco.MjData) -> dict[str, float]:
        if buttons.timer != 0:
            return {}
        return {"cost_buttons": buttons.cost * self._pressed(data, np.logical_not)}

    def _sigwalls_cost(self, walls: Any, data: mujoco.MjData) -> dict[str, float]:
        x, y = data.xpos[self._agent, :2]
        beyond = abs(x) > walls.locate_factor or (walls.num == 4 and abs(y) > walls.locate_factor)
        return {"cost_out_of_boundary": float(beyond)}

    def _touches(self, data: mujoco.MjData, kind: str) -> int:
        """The number of contacts between the agent and objects of ``kind``."""
        both = _KINDS[kind] | AGENT
        geoms = data.contact.geom
        return int(np.count_nonzero((self._kind[geoms[:, 0]] | self._kind[geoms[:, 1]]) & both == both))

    def _pressed(self, data: mujoco.MjData, select: Callable[[np.ndarray], np.ndarray]) -> int:
        """The number of contacts between the agent and buttons.

        ``select`` gets a mask of the contacts with the goal button, and returns a mask of the contacts to count.
        """
        geoms = data.contact.geom
        both = _KINDS["button"] | AGENT
        pressed = (self._kind[geoms[:, 0]] | self._kind[geoms[:, 1]]) & both == both
        goal = (geoms == self._buttons[self._task.buttons.goal_button]).any(axis=1)
        return int(np.count_nonzero(pressed & select(goal)))
