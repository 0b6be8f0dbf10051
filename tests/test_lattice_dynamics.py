"""Coupled oscillators: closed forms, exact gradients, bounds; the fused scan against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor
from torch.func import functional_call

from driftwave.errors import InputError
from driftwave.inference import lattice_scan, lattice_scan_torch
from driftwave.inference.lattice_dynamics import CoupledOscillators

VARIANTS = ["stuart_landau", "kuramoto", "second_order"]
BIN = 0.005


def ring(sites: int) -> np.ndarray:
    """Neighbours on the left (the site before) and on the right."""
    place = np.arange(sites)
    return np.stack([(place - 1) % sites, (place + 1) % sites])


def line(sites: int) -> np.ndarray:
    """The site before, only."""
    return np.arange(-1, sites - 1)[None]


def grid(rows: int, columns: int) -> np.ndarray:
    place = np.pad(np.arange(rows * columns).reshape(rows, columns), 1, constant_values=-1)
    middle = slice(1, -1)
    sides = [
        place[middle, :-2],
        place[middle, 2:],
        place[:-2, middle],
        place[2:, middle],
    ]
    return np.stack(sides).reshape(4, -1)


def graph() -> np.ndarray:
    """Two sites read the same one; one reads nobody; one reads itself."""
    return np.array([[1, -1, 1, 3, 0], [2, -1, 4, -1, 2]])


def make(neighbour: np.ndarray, variant: str, **options) -> CoupledOscillators:
    settings = {"bands": 1, "coupling": "complex", "bin_width": BIN, **options}
    return CoupledOscillators(neighbour, variant=variant, **settings).double()


def shaken(module: CoupledOscillators, by: float = 0.1) -> CoupledOscillators:
    """Every parameter moved at random, so that none is at a special value."""
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=drawn, dtype=torch.float64)
            parameter.add_(by * noise.to(parameter.dtype))
    return module


def inputs(module: CoupledOscillators, trials: int = 3, bins: int = 4) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    free = torch.randn(trials, module.width, generator=drawn, dtype=torch.float64)
    drive = torch.randn(trials, bins, module.width, generator=drawn, dtype=torch.float64)
    return module.start_from(free), 0.3 * drive


def flat(z: np.ndarray) -> Tensor:
    """Complex start (band x site) as one trial's."""
    return torch.from_numpy(np.stack([z.real, z.imag], -1).reshape(1, -1).copy())


def released(module: CoupledOscillators, z: np.ndarray, bins: int) -> np.ndarray:
    """Complex states (bin, band x site) from a start (band x site) without drive."""
    still = torch.zeros(1, bins, module.width, dtype=torch.float64)
    with torch.no_grad():
        states = module(flat(z), still)[0].numpy()
    return states[:, ::2] + 1j * states[:, 1::2]


def neighbour_sum(z: Tensor, kappa: Tensor, weight: Tensor, neighbour: np.ndarray, own: float):
    """sum_m kappa_m w_mj (z_n - own z_j), edge by edge."""
    sums = [torch.zeros_like(z[..., 0]) for _ in range(z.shape[-1])]
    for m, sources in enumerate(neighbour):
        for j, n in enumerate(sources):
            if n >= 0:
                strength = kappa[:, m, 0 if kappa.shape[-1] == 1 else j] * weight[m, j]
                sums[j] = sums[j] + strength * (z[..., n] - own * z[..., j])
    return torch.stack(sums, -1)


def by_equations(module: CoupledOscillators, neighbour: np.ndarray, start: Tensor, drive: Tensor):
    """The module's documented equations with complex numbers, phases and (y, dy/dt)."""
    h, substeps = module.step, module.substeps
    kappa = torch.complex(*(part / h for part in module._kappa()))
    omega = module.omega / module.bin_width
    shape = (module.bands, module.sites, 2)
    z = torch.view_as_complex(start.unflatten(-1, shape).contiguous())
    u = torch.view_as_complex(drive.unflatten(-1, shape).contiguous()) / substeps
    states = []
    for enters in u.unbind(1):
        for _ in range(substeps):
            if module.variant == "stuart_landau":
                mu = (module._growth() / h)[:, None]
                z = z + h * neighbour_sum(z, kappa, module.weight, neighbour, 1) + enters
                size = z.abs() ** 2
                grown = mu / (1 + (mu / size - 1) * torch.exp(-2 * mu * h))
                z = z * torch.sqrt(grown / size) * torch.exp(1j * omega * h)
            elif module.variant == "kuramoto":
                force = h * neighbour_sum(z, kappa, module.weight, neighbour, 0) + enters
                moved = torch.atan((z.conj() * force).imag)
                z = torch.exp(1j * (torch.angle(z) + omega * h + moved))
            else:
                rho = torch.exp(module._growth())[:, None]
                gamma = (1 - rho * torch.exp(1j * omega * h)).abs() ** 2 / h**2
                epsilon, most = (1 - rho**2) / h, module.force[:, None] / h
                y, speed = z.real, -torch.sqrt(gamma) * z.imag
                reads = neighbour_sum(y, kappa.real, module.weight, neighbour, 1) / most
                pull = torch.sqrt(gamma) * most * torch.tanh(reads + module.bias)
                kick = -torch.sqrt(gamma) * enters.imag
                speed = speed + h * (pull - gamma * y - epsilon * speed) + kick
                y = y + h * speed + enters.real
                z = torch.complex(y, -speed / torch.sqrt(gamma))
        states.append(torch.view_as_real(z).flatten(1))
    return torch.stack(states, 1)


def gradients(run, module: CoupledOscillators, start: Tensor, drive: Tensor) -> list[Tensor]:
    """States, then gradients of a scalar of them by start, drive and parameters."""
    start, drive = (x.detach().clone().requires_grad_() for x in (start, drive))
    states = run(start, drive)
    weight = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states)
    wanted = [start, drive, *module.parameters()]
    return [states.detach(), *torch.autograd.grad((weight * states).sum(), wanted)]


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference, relative to the largest entry of each."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((a.double() - b.double()).abs().max() / b.abs().max()) for a, b in pairs)


CASES = [
    ("ring", ring(4), {}),
    ("lattice", grid(2, 3), {"bands": 2, "substeps": 3}),
    ("graph", graph(), {"weight": np.array([[0.5, 1, 2, 0, 1], [1, 1, 0.2, 1, 1]])}),
    ("edges", grid(2, 2), {"shared": False, "site_frequency": True, "substeps": 2}),
    ("real", ring(3), {"coupling": "real", "bands": 2}),
    ("none", ring(3), {"coupling": "none"}),
]
NAMES = [name for name, *_ in CASES]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("neighbour", "options"), [c[1:] for c in CASES], ids=NAMES)
def test_gradient_is_that_of_finite_differences(variant: str, neighbour, options):
    """torch.autograd.gradcheck in float64, through start, drive and every parameter."""
    module = shaken(make(neighbour, variant, **options))
    names = [name for name, _ in module.named_parameters()]
    start, drive = (x.requires_grad_() for x in inputs(module, trials=2, bins=3))

    def run(start, drive, *parameters):
        return functional_call(module, dict(zip(names, parameters, strict=True)), (start, drive))

    leaves = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(run, (start, drive, *leaves), atol=1e-7)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("neighbour", "options"), [c[1:] for c in CASES], ids=NAMES)
def test_scans_follow_the_equations(variant: str, neighbour, options):
    """Compiled and torch scans, forward and gradient, against an edge-by-edge loop."""
    module = shaken(make(neighbour, variant, **options))
    start, drive = inputs(module, trials=10, bins=6)
    truth = gradients(lambda s, u: by_equations(module, neighbour, s, u), module, start, drive)
    assert difference(gradients(module, module, start, drive), truth) < 1e-10

    def loop(start: Tensor, drive: Tensor) -> Tensor:
        steps = module.coefficients(), module.index, module.substeps
        return lattice_scan_torch.scan(start, drive, *steps)

    assert difference(gradients(loop, module, start, drive), truth) < 1e-10


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_is_close_to_float64_over_many_bins(variant: str):
    """1e-5 of the largest entry over 100 bins, states and gradients."""
    module = shaken(make(grid(3, 4), variant), 0.01)
    start, drive = inputs(module, trials=9, bins=100)
    exact = gradients(module, module, start, 0.1 * drive)
    single = module.float()
    short = gradients(single, single, start.float(), (0.1 * drive).float())
    assert short[0].dtype == torch.float32
    assert difference(short, exact) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_number_of_threads_changes_nothing(variant: str):
    """Bit for bit, in states and gradients, above and below the size where threads start."""
    module = shaken(make(grid(8, 12), variant)).float()
    start, drive = (x.float() for x in inputs(module, trials=20, bins=60))
    assert drive.numel() > lattice_scan.THREAD_WORK
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(gradients(module, module, start, drive))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_scan_resumes_from_any_bin(variant: str):
    """The state of a bin is all that the next ones need, bit for bit."""
    module = shaken(make(ring(5), variant, substeps=2)).float()
    start, drive = (x.float() for x in inputs(module, trials=3, bins=9))
    with torch.no_grad():
        whole = module(start, drive)
        rest = module(whole[:, 3], drive[:, 4:])
    assert torch.equal(whole[:, 4:], rest)


@pytest.mark.parametrize("hertz", [10.0, 40.0])
@pytest.mark.parametrize("bin_width", [0.005, 0.01, 0.02])
def test_a_site_alone_settles_at_its_amplitude_and_frequency(bin_width: float, hertz: float):
    """|z| = sqrt(mu) from either side; the phase moves by omega dt, even beyond Nyquist."""
    module = make(ring(2), "stuart_landau", coupling="none", bin_width=bin_width)
    module.set_growth_rate(16.0)
    with torch.no_grad():
        module.omega.fill_(2 * math.pi * hertz * bin_width)
    z = released(module, np.array([0.1 + 0.2j, -30.0 + 0j]), 200)
    assert np.abs(z[-1]) == pytest.approx([4, 4], rel=1e-9)
    turned = z[1:] / z[:-1] * np.abs(z[:-1]) / np.abs(z[1:])
    assert turned == pytest.approx(np.exp(2j * np.pi * hertz * bin_width), abs=1e-6)


def test_a_site_alone_follows_the_logistic_law():
    """|z(t)|^2 = mu / (1 + (mu / |z_0|^2 - 1) exp(-2 mu t)), exactly, for mu of either sign."""
    time = BIN * np.arange(1, 21)
    for mu in (8.0, -8.0, 1e-9):
        module = make(ring(2), "stuart_landau", coupling="none")
        module.set_growth_rate(mu)
        z = released(module, np.array([0.5j, 5.0]), 20)
        for site, size in enumerate([0.25, 25.0]):
            law = mu / (1 + (mu / size - 1) * np.exp(-2 * mu * time))
            assert np.abs(z[:, site]) ** 2 == pytest.approx(law, rel=1e-6)


@pytest.mark.parametrize("winding", [0, 1, -3])
def test_twisted_state_of_a_kuramoto_ring_turns_at_the_closed_form(winding: int):
    """theta_dot = omega + K sum over directions of sin(+-2 pi q / N - alpha)."""
    sites, strength, lag, hertz = 20, 6.0, 0.4, 8.0
    module = make(ring(sites), "kuramoto", substeps=5)
    module.set_frequency(hertz)
    module.set_kappa(strength * np.exp(-1j * lag))
    twist = 2 * np.pi * winding / sites
    start = np.exp(1j * twist * np.arange(sites))
    z = released(module, start, 100)
    assert np.abs(z) == pytest.approx(1, abs=1e-12)
    assert z / z[:, :1] == pytest.approx(np.broadcast_to(start, z.shape), abs=1e-9)
    pull = strength * (np.sin(twist - lag) + np.sin(-twist - lag))
    step = BIN / 5
    rate = np.angle(z[1:, 0] / z[:-1, 0]) / BIN
    assert rate == pytest.approx(2 * np.pi * hertz + np.arctan(step * pull) / step, abs=1e-8)
    assert rate == pytest.approx(2 * np.pi * hertz + pull, rel=1e-5)


def test_kappa_of_phase_minus_alpha_makes_the_listener_lag_by_alpha():
    """On a chain that hears the site before, site j ends alpha behind site j - 1."""
    lag = 0.7
    for variant in ("kuramoto", "stuart_landau"):
        module = make(line(4), variant, substeps=4)
        module.set_kappa(20 * np.exp(-1j * lag))
        assert module.lag == pytest.approx(lag, abs=1e-6)
        z = released(module, np.exp(2j * np.arange(4)), 2000)[-1]
        behind = np.angle(z[:-1] / z[1:])
        if variant == "kuramoto":
            assert behind == pytest.approx([lag] * 3, abs=1e-6)
        else:
            # -kappa z_j speeds the listener up, by K sin(alpha).
            assert (behind > -0.2).all()


def test_travelling_wave_of_a_stuart_landau_ring_has_its_closed_form():
    """|z|^2 = mu + Re sum kappa (e^{i d} - 1), rate = omega + Im of it; exact for the scheme."""
    sites, winding, mu = 16, 2, 9.0
    twist = 2 * np.pi * winding / sites * np.array([-1, 1])
    kappa = np.array([[5 * np.exp(-0.5j), 3.0]])
    drift = (kappa[0] * (np.exp(1j * twist) - 1)).sum()
    for substeps, error in ((1, 0.02), (20, 0.002)):
        module = make(ring(sites), "stuart_landau", substeps=substeps)
        module.set_growth_rate(mu)
        module.set_frequency(12.0)
        module.set_kappa(kappa)
        h = BIN / substeps
        factor = 1 + h * drift
        decay, bend = np.exp(-2 * mu * h), -np.expm1(-2 * mu * h) / mu
        size = (abs(factor) ** 2 - decay) / (bend * abs(factor) ** 2)
        assert size == pytest.approx(mu + drift.real, rel=error)
        start = np.sqrt(size) * np.exp(2j * np.pi * winding / sites * np.arange(sites))
        z = released(module, start, 50)
        turned = start * np.exp(50j * (substeps * np.angle(factor) + 24 * np.pi * BIN))
        assert z[-1] == pytest.approx(turned, rel=1e-7)
        assert substeps * np.angle(factor) / BIN == pytest.approx(drift.imag, rel=error)


@pytest.mark.parametrize("neighbour", [ring(5), grid(2, 3)], ids=["ring", "lattice"])
def test_small_damped_states_follow_the_matrix_exponential(neighbour: np.ndarray):
    """One matrix per bin for the scheme; expm of the equation's matrix as substeps grow."""
    directions, sites = neighbour.shape
    kappa = 4 * np.exp(-0.3j * np.arange(directions))[None]
    mu, omega = -3.0, 2 * np.pi * 9
    coupling = np.zeros((sites, sites), complex)
    for m, j in zip(*np.nonzero(neighbour >= 0), strict=True):
        coupling[j, neighbour[m, j]] += kappa[0, m]
        coupling[j, j] -= kappa[0, m]
    start = 1e-6 * np.exp(1j * np.arange(sites) ** 2)
    law = expm(50 * BIN * (coupling + (mu + 1j * omega) * np.eye(sites))) @ start
    errors = []
    for substeps in (1, 16, 32):
        module = make(neighbour, "stuart_landau", substeps=substeps)
        module.set_growth_rate(mu)
        module.set_frequency(9.0)
        module.set_kappa(kappa)
        end = released(module, start, 50)[-1]
        h = BIN / substeps
        one = np.exp((mu + 1j * omega) * h) * (np.eye(sites) + h * coupling)
        scheme = np.linalg.matrix_power(one, 50 * substeps) @ start
        assert np.abs(end - scheme).max() < 1e-9 * np.abs(scheme).max()
        errors.append(np.abs(end - law).max() / np.abs(law).max())
    assert errors[1] < 0.01
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("hertz", "bin_width"), [(40, 0.005), (40, 0.01), (20, 0.02), (1, 0.02)])
def test_second_order_oscillates_at_the_stated_frequency_and_damping(hertz, bin_width):
    """y_{t+1} = 2 rho cos(omega dt) y_t - rho^2 y_{t-1}: no error of the step in either."""
    module = make(ring(2), "second_order", coupling="none", bin_width=bin_width)
    module.set_frequency(hertz)
    module.set_growth_rate(-4.0)
    z = released(module, np.array([1 + 0j, 0.3j]), 60)
    rho = np.exp(-4.0 * bin_width)
    turn = 2 * np.pi * hertz * bin_width
    y = z.real
    law = 2 * rho * np.cos(turn) * y[1:-1] - rho**2 * y[:-2]
    assert y[2:] == pytest.approx(law, abs=1e-9)
    assert np.sign(np.angle(z[2:] / z[1:-1]).mean()) == 1


def test_second_order_waves_have_the_dispersion_of_their_coupling():
    """omega_q^2 = omega^2 + omega kappa 2 (1 - cos(2 pi q / N)) for small waves on a ring."""
    sites, winding, kappa, hertz = 12, 3, 10.0, 6.0
    module = make(ring(sites), "second_order", substeps=20)
    module.set_frequency(hertz)
    module.set_growth_rate(-1e-6)
    module.set_kappa(kappa)
    twist = 2 * np.pi * winding / sites
    start = 1e-4 * np.cos(twist * np.arange(sites)) + 0j
    y = released(module, start, 400)[:, 0].real
    omega = 2 * np.pi * hertz
    expected = np.sqrt(omega**2 + omega * kappa * 2 * (1 - np.cos(twist)))
    crossings = np.flatnonzero(np.diff(np.sign(y)))
    exact = crossings + y[crossings] / (y[crossings] - y[crossings + 1])
    assert np.pi / (np.diff(exact).mean() * BIN) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("variant", ["stuart_landau", "kuramoto"])
def test_a_turned_start_turns_the_whole_path(variant: str):
    """Goldstone mode: nothing but the drive knows the global phase."""
    module = shaken(make(grid(3, 3), variant, bands=2))
    z = np.exp(1j * np.arange(18.0) ** 2)
    turn = np.exp(1.1j)
    assert released(module, turn * z, 40) == pytest.approx(turn * released(module, z, 40))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bin_width", [0.005, 0.02])
def test_extreme_parameters_leave_states_and_gradients_finite(variant: str, bin_width: float):
    """Free parameters and starts far out; for the states, drives as well."""
    for sign in (-1, 1):
        module = make(grid(4, 4), variant, bin_width=bin_width).float()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(sign * torch.linspace(5, 60, parameter.numel()).view_as(parameter))
        start, drive = (x.float() for x in inputs(module, trials=2, bins=300))
        with torch.no_grad():
            assert torch.isfinite(module(100 * start, 100 * drive)).all()
        # Phases kicked about by more than a radian in every bin have no bounded gradient.
        found = gradients(module, module, 100 * start, drive)
        assert all(torch.isfinite(x).all() for x in found)
        assert (np.abs(module.kappa).sum(1) * module.step < 1 + 1e-6).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_not_finite_reaches_the_last_bin(variant: str):
    """So that the loss shows it and training steps back."""
    module = make(ring(4), variant)
    start, drive = inputs(module, trials=2, bins=30)
    drive[1, 3, 2] = math.nan
    with torch.no_grad():
        states = module(start, drive)
    assert torch.isfinite(states[0]).all()
    assert torch.isnan(states[1, -1]).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_set_is_what_is_read(variant: str):
    module = make(grid(3, 3), variant, bands=2, substeps=3, bin_width=0.01)
    module.set_frequency([7.0, 21.0])
    assert module.frequency == pytest.approx([7, 21], rel=1e-6)
    kappa = np.arange(1, 9).reshape(2, 4) * np.exp(-0.3j * (variant != "second_order"))
    module.set_kappa(kappa)
    assert module.kappa == pytest.approx(kappa, rel=1e-6)
    assert module.lag == pytest.approx(0.3 * (variant != "second_order"), abs=1e-6)
    if variant != "kuramoto":
        module.set_growth_rate([-5.0, -0.5])
        assert module.growth_rate == pytest.approx([-5, -0.5], rel=1e-5)


@pytest.mark.parametrize("variant", ["stuart_landau", "kuramoto"])
def test_descent_finds_planted_parameters(variant: str):
    """Adam at one learning rate finds frequency, strength and lag of a ring from its transients."""
    truth = make(ring(12), variant).float()
    truth.set_frequency(8.0)
    truth.set_kappa(np.array([[6 * np.exp(-0.5j), 3.0]]))
    drawn = torch.Generator().manual_seed(2)
    start = truth.start_from(2 * torch.randn(16, truth.width, generator=drawn))
    still = torch.zeros(16, 50, truth.width)
    with torch.no_grad():
        target = truth(start, still)
    module = make(ring(12), variant).float()
    module.set_frequency(7.0)
    optimiser = torch.optim.Adam(module.parameters(), 0.004)
    for _ in range(300):
        optimiser.zero_grad()
        (module(start, still) - target).square().mean().backward()
        optimiser.step()
    assert module.frequency == pytest.approx(8, rel=0.01)
    assert np.abs(module.kappa - truth.kappa).max() < 0.1
    assert module.lag[0] == pytest.approx([0.5, 0], abs=0.03)


def test_frequencies_of_sites_differ():
    module = make(ring(6), "kuramoto", coupling="none", site_frequency=True)
    hertz = np.linspace(5, 15, 6)[None]
    module.set_frequency(hertz)
    assert module.frequency == pytest.approx(hertz, rel=1e-6)
    z = released(module, np.ones(6, complex), 10)
    assert np.angle(z[1] / z[0]) / (2 * np.pi * BIN) == pytest.approx(hertz[0], rel=1e-6)


def test_phases_start_on_the_circle():
    module = make(ring(4), "kuramoto")
    free = torch.randn(5, module.width, dtype=torch.float64, generator=torch.Generator())
    z = module.start_from(free).unflatten(-1, (-1, 2))
    assert torch.allclose(z.norm(dim=-1), torch.ones(5, 4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(torch.atan2(*z.unbind(-1)), torch.atan2(*free.view(5, 4, 2).unbind(-1)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.set_frequency(120.0), "frequency"),
        (lambda m: m.set_frequency(math.nan), "frequency"),
        (lambda m: m.set_growth_rate(300.0), "mu"),
        (lambda m: m.set_kappa(150.0), "kappa"),
    ],
)
def test_values_out_of_bounds_are_refused(change, field: str):
    module = make(ring(4), "stuart_landau")
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(InputError) as caught:
        change(module)
    assert caught.value.field == field
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_impossible_couplings_are_refused():
    with pytest.raises(InputError, match="choose complex"):
        make(ring(4), "stuart_landau", coupling="real").set_kappa(1j)
    with pytest.raises(InputError, match="no amplitude"):
        make(ring(4), "kuramoto").set_growth_rate(1.0)
    with pytest.raises(InputError, match="kappa"):
        make(ring(4), "kuramoto", coupling="none").set_kappa(1.0)


@pytest.mark.parametrize(
    ("neighbour", "options", "field"),
    [
        (np.array([[0, 4, 1]]), {}, "neighbour"),
        (np.array([[0.0, 1.0]]), {}, "neighbour"),
        (ring(3), {"weight": -np.ones((2, 3))}, "weight"),
        (ring(3), {"weight": np.ones(3)}, "weight"),
        (ring(3), {"bands": 0}, "bands"),
        (ring(3), {"bin_width": 0.0}, "bin_width"),
    ],
)
def test_impossible_lattices_are_refused(neighbour, options, field: str):
    with pytest.raises(InputError) as caught:
        make(neighbour, "stuart_landau", **options)
    assert caught.value.field == field
