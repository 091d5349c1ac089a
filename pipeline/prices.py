"""What each model of a run costs. A role may have had several, since a regeneration may name another teacher."""

from pipeline.plan import Plan
from pipeline.store import RunStore
from schemas.config import MODEL_ROLES, Price
from schemas.generation import with_changes

_OWN_HARDWARE = Price(input=0.0, output=0.0)


class Prices:
    """endpoints: by role and model name, of those that the run and its regenerations name; None: no price is said."""

    def __init__(self, run: RunStore) -> None:
        config = run.recorded_config()
        configs = [config, *(with_changes(config, ordered.changes) for ordered in Plan(run).generations)]
        models = [(role, each[role]) for each in configs for role in MODEL_ROLES if each.get(role)]
        self.endpoints: dict[tuple[str, str], Price | None] = {}
        for role, model in models:
            if "model" in model and not self.endpoints.get((role, model["model"])):
                price = model.get("price")
                self.endpoints[role, model["model"]] = Price.model_validate(price) if price else None
        self._own = {role for role, model in models if model.get("backend") in ("local", "demo")}

    def of(self, role: str, model: str) -> Price | None:
        """Of a model in a role: nothing on hardware of one's own, None where it is not known."""
        if (role, model) in self.endpoints:
            return self.endpoints[role, model]
        return _OWN_HARDWARE if role in self._own else None
