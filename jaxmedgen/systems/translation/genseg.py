"""GenSeg: segmentation boosted by translation between presence and absence of a finding.

Few images have a mask, but for all it is known whether they hold the finding (P) or not (A).
Translating between the two, unpaired, separates what is common from what is unique to P, which is
what segmentation needs: the decoder of the unique part is re-used as the segmenter. Source:
Vorontsov et al., "Boosting segmentation with weak supervision from image-to-image translation",
arXiv 1904.01636; weights and details after its published implementation.

In a step the discriminators are updated first, on translations that are constants to them, then
the critic of the mutual information, if there is one, then the generator against both.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.augment.pairing import draw_partners, take_partners
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses import adversarial
from jaxmedgen.losses.labelled_dice import labelled_dice_loss
from jaxmedgen.losses.mutual_information import critic_objective, mutual_information_bound
from jaxmedgen.nets.genseg import Translations
from jaxmedgen.nets.spectral import COLLECTION
from jaxmedgen.ops.gradient_reversal import gradient_reversal
from jaxmedgen.systems.translation import genseg_build
from jaxmedgen.systems.translation.genseg_inputs import targets
from jaxmedgen.systems.translation.genseg_model import (
    DISCRIMINATOR,
    ESTIMATOR,
    GENERATOR,
    LOCATOR,
    REVERSAL,
    SEGMENTER,
    GenSegModel,
)
from jaxmedgen.systems.translation.genseg_sides import Side, sides
from jaxmedgen.systems.translation.genseg_terms import (
    class_probabilities,
    ever,
    feature_difference,
    found_place,
    l1,
    remaining_contrast,
    weights_at,
)
from jaxmedgen.systems.translation.genseg_variety import variety
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective


@dataclasses.dataclass(frozen=True)
class GenSeg(GenSegModel):
    """The model's training."""

    def objectives(self) -> tuple[Objective, ...]:
        """Discriminators, locators, critic, generator, in this order."""
        trained = [GENERATOR, *(n for n in (SEGMENTER, REVERSAL) if n in self.settings)]
        found = [(DISCRIMINATOR, (DISCRIMINATOR,), self._discriminate)]
        if self.locators is not None:
            found.append((LOCATOR, (LOCATOR,), self._locate))
        if self.estimator is not None:
            found.append((ESTIMATOR, (ESTIMATOR,), self._estimate))
        found.append((GENERATOR, tuple(trained), self._generate))
        # Dice and permuted codes are of the whole batch; spectral norms move on once a step.
        return tuple(Objective(*parts, whole_batch=True) for parts in found)

    def _translations(self, inputs: LossInputs) -> tuple[Translations, Mapping[str, Any]]:
        """All translations of the batch, and the vectors of the spectral norms one step on.

        The discriminator's and the generator's loss call it alike, so that the compiler can do
        with one computation.
        """
        batch = inputs.batch
        return self.net.apply(
            inputs.variables[GENERATOR],
            *(batch[name] for name in ("image", "absent", "prior", "domain")),
            *(batch.get(name) for name in ("other", "exchange")),
            update=True,
            mutable=[COLLECTION],
            method="translate",
        )

    def _discriminate(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        batch, variables = inputs.batch, inputs.variables[DISCRIMINATOR]
        made = jax.lax.stop_gradient(self._translations(inputs)[0])
        shown = sides(batch, made, placed=self.placed)
        absence = shown["absence"]
        # Where findings are only removed, the other discriminator sees what it does not learn.
        real = Side(batch["image"], len(batch["image"]), batch["domain"], batch.get("place"))
        presence = shown.get("presence", real)
        judged, updated = self.discriminators.apply(
            variables,
            presence.images,
            absence.images,
            presence.domain,
            (presence.place, absence.place) if self.placed else (None, None),
            update=True,
            mutable=[COLLECTION],
        )
        value, accuracy = 0.0, []
        for name, logits in zip(("presence", "absence"), judged):
            if name not in shown:
                continue
            count = shown[name].count
            real, fake = [x[:count] for x in logits], [x[count:] for x in logits]
            value = value + adversarial.discriminator_loss(self.gan, real, fake)
            accuracy.append(adversarial.discriminator_accuracy(self.gan, real, fake))
            if self.penalty:
                image, domain, place = shown[name].part(real=True)
                translated = shown[name].part(real=False)[0][:count]
                critic = self._critic(variables, name, domain, place)
                value = value + self.penalty * adversarial.gradient_penalty(
                    critic, image, translated, inputs.keys, self.penalty_kind
                )
        metrics = {"discriminator_accuracy": sum(accuracy) / len(accuracy)}
        metrics |= variety(self, inputs, made, list(shown.values())[-1])
        weight = weights_at(self.stages, inputs.step)["adversarial"]
        return weight * value, LossOutputs(metrics, {DISCRIMINATOR: updated})

    def _critic(self, variables, name, domain, place):
        judge = self.discriminators.apply
        if name == "absence":
            return lambda x: judge(variables, x, place, method="judge_absence")
        return lambda x: judge(variables, x, domain, place, method="judge_presence")

    def _locate(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        """Where real slices lie in their volumes."""
        batch, variables = inputs.batch, inputs.variables[LOCATOR]
        maps, updated = self.locators.apply(
            variables,
            batch["image"],
            batch["absent"],
            jnp.zeros_like(batch["domain"]),
            update=True,
            mutable=[COLLECTION],
        )
        places = (batch["place"], batch["absent_place"])
        value = sum(l1(found_place(m), p) for m, p in zip(maps, places))
        return value, LossOutputs({}, {LOCATOR: updated})

    def _information(self, inputs, made, code_ap):
        """The critic's values of joint and of permuted codes, of P and of A with a finding."""
        score = jax.vmap(jax.random.uniform)(inputs.keys)
        partner = draw_partners(score)
        critic = {"params": inputs.variables[ESTIMATOR]["params"]}
        found = {}
        for name, code in (("present", made.code_p), ("added", code_ap)):
            c, u = self.net.parts(code)
            found[name] = tuple(
                self.estimator.apply(critic, c, v) for v in (u, take_partners(u, partner))
            )
        return found

    def _estimate(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        made, _ = self._translations(inputs)
        code_ap, _ = self._encode(inputs.variables, made.x_ap)
        made, code_ap = jax.lax.stop_gradient((made, code_ap))
        average, value, metrics = {}, 0.0, {}
        for name, (joint, marginal) in self._information(inputs, made, code_ap).items():
            old = inputs.variables[ESTIMATOR]["average"][name]
            loss, average[name] = critic_objective(joint, marginal, old)
            value = value + loss
            bound = mutual_information_bound(joint, marginal)
            metrics[f"information_{name}"] = jax.lax.stop_gradient(bound)
        return value, LossOutputs(metrics, {ESTIMATOR: {"average": average}})

    def _generate(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        batch, variables = inputs.batch, inputs.variables
        weights = weights_at(self.stages, inputs.step)
        made, updated = self._translations(inputs)
        terms = {"image": l1(batch["image"], made.x_pp) + l1(batch["absent"], made.x_aa)}
        coded = self._code_terms(inputs, made)
        terms |= {k: v for k, v in coded.items() if ever(self.stages, k)}
        if ever(self.stages, "adversarial"):
            terms["adversarial"] = self._fool(inputs, made)
        if self.locators is not None:
            terms["place"] = self._misplace(inputs, made)
        changed = {GENERATOR: updated}
        if self.segmenter is None:
            logits = self._logits(variables, made.code_p, made.skips_p)
        else:
            logits, changed[SEGMENTER] = self.segmenter.apply(
                variables[SEGMENTER],
                made.code_p,
                made.skips_p,
                "segmentation",
                update=True,
                mutable=[COLLECTION],
            )
        mask, known = targets(batch, self.net.classes)
        terms["segmentation"] = labelled_dice_loss(
            class_probabilities(logits)[..., 1:], mask, known
        )
        value = sum(weights[name] * term for name, term in terms.items())
        if self.reversal is not None:
            terms["reversal"] = self._reverse(inputs, made)
            value = value + terms["reversal"]
        metrics = jax.lax.stop_gradient(terms)
        metrics["remaining_contrast"] = remaining_contrast(made, batch["image"], mask.max(-1))
        return value, LossOutputs(metrics, changed)

    def _code_terms(self, inputs, made):
        """Terms of the translated images' codes: latent, cycle, mutual information."""
        batch, net, b = inputs.batch, self.net, len(inputs.batch["image"])
        images = [made.x_pa, made.x_aa, made.x_pp, made.x_ap, made.x_pq]
        images = [image for image in images if image is not None]

        def encode(x):
            return self._encode(inputs.variables, x)

        encode = jax.checkpoint(encode) if self.remat else encode
        code, skips = encode(jnp.concatenate(images))
        codes = [code[i : i + b] for i in range(0, len(code), b)]
        features = {}
        if ever(self.stages, "features"):
            features["features"] = feature_difference(made, skips)
        if not net.split:
            pairs = [(codes[2], made.code_p), (codes[1], made.code_a)]
            return {**features, "latent": sum(l1(*pair) for pair in pairs)}
        (c_pa, _), (c_aa, _), (c_pp, u_pp), (c_ap, u_ap) = map(net.parts, codes[:4])
        (c_p, u_p), (c_a, _) = map(net.parts, (made.code_p, made.code_a))
        pairs = [(c_p, c_pa), (c_a, c_aa)]
        if self.joint_latent and net.domains == 1:
            pairs += [(made.code_p, codes[2])]
            pairs += [(jnp.concatenate([c_a, batch["prior"]], -1), codes[3])]
        else:
            u_p, u_pp, u_ap = (net.block(u, batch["domain"]) for u in (u_p, u_pp, u_ap))
            pairs += [(c_a, c_ap), (c_p, c_pp), (u_p, u_pp), (batch["prior"], u_ap)]
        if made.x_pq is not None:
            c_pq, u_pq = net.parts(codes[4])
            pairs += [(c_p, c_pq), (batch["exchange"], net.block(u_pq, batch["other"]))]
        terms = {**features, "latent": sum(l1(*pair) for pair in pairs)}
        if ever(self.stages, "cycle"):
            terms["cycle"] = self._cycle(inputs, made, codes, skips)
        if ever(self.stages, "information"):
            found = self._information(inputs, made, codes[3])
            terms["information"] = sum(mutual_information_bound(*v) for v in found.values())
        return terms

    def _cycle(self, inputs, made, codes, skips):
        """The third image term, of images translated twice; skips are those of the translation."""
        batch, variables = inputs.batch, inputs.variables[GENERATOR]
        b, apply = len(batch["image"]), self.net.apply
        first = 3 * b if self.cycle == "apa" else 0
        own = jax.tree.map(lambda x: x[first : first + b], skips)
        if self.cycle == "apa":
            return l1(batch["absent"], apply(variables, codes[3], own, method="remove"))
        common, domain = self.net.parts(codes[0])[0], batch["domain"]
        unique = self.net.block(self.net.parts(made.code_p)[1], domain)
        added = apply(variables, common, unique, own, domain, method="residue")
        return l1(batch["image"], apply(variables, codes[0], own, method="remove") + added)

    def _fool(self, inputs, made):
        """The generator's adversarial term against the discriminators as they are now."""
        variables, value = inputs.variables[DISCRIMINATOR], 0.0
        for name, side in sides(inputs.batch, made, placed=self.placed).items():
            fake, *labels = side.part(real=False)
            against = None
            if self.gan == "relativistic":
                real, *own = side.part(real=True)
                against = self._critic(variables, name, *own)(real)
            logits = self._critic(variables, name, *labels)(fake)
            value = value + adversarial.generator_loss(self.gan, logits, against)
        return value

    def _misplace(self, inputs, made):
        """How far from their places translated slices seem to lie."""
        value = 0.0
        for name, side in sides(inputs.batch, made, placed=True).items():
            fake, domain, place = side.part(real=False)
            labels = () if name == "absence" else (jnp.zeros_like(domain),)
            maps = self.locators.apply(
                inputs.variables[LOCATOR], fake, *labels, method=f"judge_{name}"
            )
            value = value + l1(found_place(maps), place)
        return value

    def _reverse(self, inputs, made):
        """What u tells of the image without its finding; the encoder is to make it little."""
        share = jnp.minimum(inputs.step / self.reversal_ramp, 1.0)
        unique = gradient_reversal(self.net.parts(made.code_p)[1], self.reversal_weight * share)
        skips = jax.lax.stop_gradient(made.skips_p)  # they give sizes only
        guess = self.reversal.apply(inputs.variables[REVERSAL], unique, skips)
        return l1(jax.lax.stop_gradient(made.x_pa), guess)


def build(config: Any, info: DatasetInfo) -> Any:
    """The system of a configuration for a data set: `GenSeg`, or one of its baselines.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    if config.net.kind == "baseline":
        return genseg_build.baseline(config, info)
    return GenSeg(**genseg_build.parts(config, info))
