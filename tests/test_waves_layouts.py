"""Phase gradient on layouts of every kind: turned grids, lines, scattered electrodes, gaps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.layout import Layout
from driftwave.phase.electrodes import arrays_of, good_electrodes, place
from driftwave.phase.gradient import (
    GridGradient,
    LocalPlanes,
    directionality,
    frequency,
    gradient_operator,
    order_parameter,
    wrap,
)
from driftwave.waves.phase_gradient import Params, analyse
from nwb_builder import Builder
from nwb_builder import grid as nwb_grid
from waves_cases import PITCH, grid, in_band, noise, phase_of, recording_of

RATE = 250.0


def turned(position: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return position @ turn + [3.0, -7.0]


def strip(seed: int = 0) -> np.ndarray:
    """Two rows of 16 contacts 10 mm apart, none exactly in its place."""
    rng = np.random.default_rng(seed)
    ideal = np.array([(10.0 * i, 10.0 * j) for j in range(2) for i in range(16)])
    return ideal + rng.normal(0, 1.0, ideal.shape)


def staggered() -> np.ndarray:
    """Four columns of contacts as on dense probes, every other row set off."""
    return (
        np.array([(16.0 + 32 * i - 16 * (j % 2), 20.0 * j) for j in range(48) for i in (0, 1)])
        / 1e3
    )


def quadratic(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phase (electrode,), its gradient (electrode, 2) and its constant Hessian."""
    hessian = np.array([[0.5, 0.2], [0.2, -0.3]])
    centred = position - position.mean(axis=0)
    slope = np.array([1.5, -0.8])
    phase = centred @ slope + 0.5 * np.einsum("ni,ij,nj->n", centred, hessian, centred)
    return phase, slope + centred @ hessian, hessian


def travels(gradient: np.ndarray) -> tuple[float, float]:
    """Direction (degree) and wavenumber of the mean gradient."""
    mean = -gradient.mean(axis=(1, 2))
    return float(np.degrees(np.arctan2(mean[1], mean[0]))), float(np.hypot(*mean))


LAYOUTS = {
    "10x10": grid(),
    "without corners and 10": grid(corners=False, missing=10, seed=3),
    "8x4": grid(8, 4),
    "unequal": grid(10, 6) * [1.0, 2.5],
    "turned by 30": turned(grid(corners=False, missing=10, seed=3), 30),
    "turned by -71": turned(grid(8, 4), -71),
    "turned unequal": turned(grid(10, 6) * [1.0, 2.5], 12),
    "scattered": np.random.default_rng(4).uniform(0, 4, (96, 2)),
    "staggered": staggered(),
    "strip": strip(),
}
GRIDS = [name for name in LAYOUTS if name not in ("scattered", "staggered", "strip")]


@pytest.mark.parametrize("name", LAYOUTS)
def test_planes_are_exact_on_every_layout(name):
    electrodes = place(LAYOUTS[name])
    operator = gradient_operator(electrodes)
    assert isinstance(operator, GridGradient if name in GRIDS else LocalPlanes)
    assert len(operator.usable) > 0.9 * len(electrodes)
    # The reference speeds on a 0.4 mm pitch, as wavelengths in pitches on the others.
    scale = electrodes.spacing.max() / PITCH
    for speed in (100, 200, 400, 800):
        for direction in range(-180, 180, 45):
            angle = {"speed": speed * scale, "direction": direction}
            phase = phase_of("planar", electrodes.position, frequency=12, **angle)
            frames = wrap(phase[:, None] + 2 * np.pi * 12 * np.arange(8) / RATE)
            gradient = operator(frames)
            found, size = travels(gradient)
            assert abs((found - direction + 180) % 360 - 180) < 0.5
            speed_found = 2 * np.pi * frequency(frames, RATE).mean() / size
            assert speed_found == pytest.approx(speed * scale, rel=0.01)
            np.testing.assert_allclose(directionality(gradient), 1, atol=1e-6)


@pytest.mark.parametrize("degrees", [0.3, 15, 30, 45, 60, 89, -20])
def test_turned_grids_are_grids_with_the_same_gradient(degrees):
    upright = grid(corners=False, missing=6)
    position = turned(upright, degrees)
    electrodes = place(np.round(position * 1e3) / 1e3)
    assert electrodes.lattice is not None
    np.testing.assert_allclose(electrodes.spacing, PITCH, rtol=2e-3)
    phase = quadratic(upright)[0][:, None]
    first = gradient_operator(place(upright))
    second = gradient_operator(place(position))
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = np.tensordot(turn, first(wrap(phase)), axes=1)
    order = np.argsort(second.usable)
    np.testing.assert_array_equal(second.usable[order], first.usable)
    np.testing.assert_allclose(second(wrap(phase))[:, order], expected, atol=1e-9)


def test_steps_and_nyquist_follow_the_grid_not_the_axes():
    electrodes = place(turned(grid(10, 6) * [1.0, 2.5], 30))
    assert electrodes.nyquist == pytest.approx(np.pi)
    along = electrodes.basis[np.argmin(electrodes.spacing)]
    np.testing.assert_allclose(np.sort(electrodes.steps(2.0 * along)), [0, 0.8], atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_quadratic_phase_has_its_gradient_inside_a_grid(name):
    electrodes = place(LAYOUTS[name])
    operator = gradient_operator(electrodes)
    phase, slope, hessian = quadratic(electrodes.position)
    found = operator(wrap(phase[:, None]))[..., 0].T
    pairs = operator.stencil
    centred = (pairs[:, :, 0] != pairs[:, :, 1]).any(axis=-1).all(axis=0)
    assert 0.2 < centred.mean() < 1
    np.testing.assert_allclose(found[centred], slope[operator.usable][centred], atol=1e-9)
    # One-sided differences are off by half the curvature times the spacing, no more.
    curvature = np.abs(electrodes.basis @ hessian @ electrodes.basis.T).diagonal()
    bound = np.hypot(*(curvature * electrodes.spacing / 2))
    assert np.linalg.norm(found - slope[operator.usable], axis=1).max() <= bound * 1.001


def test_quadratic_phase_on_scattered_electrodes():
    position = np.random.default_rng(5).uniform(0, 4, (96, 2))
    electrodes = place(position)
    operator = gradient_operator(electrodes)
    phase, slope, hessian = quadratic(position)
    error = operator(wrap(phase[:, None]))[..., 0].T - slope[operator.usable]
    reach = np.linalg.norm(operator.offset, axis=-1).max(axis=1)
    steepest = np.abs(np.linalg.eigvalsh(hessian)).max()
    # A plane over a reach d cannot follow more than the phase bends there.
    assert (np.linalg.norm(error, axis=1) <= steepest * reach).all()
    assert np.median(np.linalg.norm(error, axis=1)) < 0.05 * np.linalg.norm(slope, axis=1).mean()


def test_two_steps_at_once_would_alias_and_ours_does_not():
    position = grid()
    k = 0.8 * np.pi / PITCH
    phase = -k * position[:, :1]
    customary = wrap(phase[2] - phase[0]) / (2 * PITCH)
    assert customary[0] > 0
    np.testing.assert_allclose(gradient_operator(place(position))(wrap(phase))[0], -k, rtol=1e-6)


def test_unwrapping_over_space_would_spread_a_jump_and_ours_does_not():
    """np.gradient of phase unwrapped along rows breaks where rows jump by whole turns."""
    position = grid()
    frames = wrap(phase_of("rotating", position, frequency=12)[:, None])
    sheet = np.unwrap(frames[:, 0].reshape(10, 10), axis=1)
    customary = np.gradient(sheet, PITCH, axis=0)
    away = position - [1.8, 1.8]
    distance = np.hypot(*away.T)
    far = distance > 3 * PITCH
    expected = -np.stack([-away[:, 1], away[:, 0]]) / distance**2
    ours = gradient_operator(place(position))(frames)[..., 0]
    assert np.abs(customary.ravel() - expected[1])[far].max() > 3
    assert np.abs(ours - expected)[:, far].max() < 0.2


def test_unwrapping_over_time_has_no_part_in_the_gradient():
    """A cycle slip on one electrode leaves every later gradient as it was."""
    position = grid()
    time = np.arange(500) / RATE
    frames = 2 * np.pi * 12 * time + phase_of("planar", position, frequency=12)[:, None]
    slipped = frames.copy()
    slipped[44, 200:] += 2 * np.pi
    operator = gradient_operator(place(position))
    np.testing.assert_allclose(operator(slipped), operator(frames), atol=1e-9)


@pytest.mark.parametrize("name", ["without corners and 10", "turned by 30", "scattered"])
def test_nan_takes_no_neighbour_with_it(name):
    electrodes = place(LAYOUTS[name])
    operator = gradient_operator(electrodes)
    phase = phase_of("planar", electrodes.position, frequency=12, direction=30)
    frames = wrap(np.repeat(phase[:, None], 4, axis=1))
    whole = operator(frames)
    lost = operator.usable[len(operator.usable) // 2]
    frames[lost, 1:3] = np.nan
    found = operator(frames)
    gone = operator.usable == lost
    assert np.isnan(found[:, gone, 1:3]).all()
    others = np.isfinite(found[:, ~gone]).all(axis=(0, 2))
    assert others.mean() > 0.95
    np.testing.assert_allclose(found[:, ~gone][:, others], whole[:, ~gone][:, others], atol=1e-9)
    np.testing.assert_array_equal(found[..., [0, 3]], whole[..., [0, 3]])
    np.testing.assert_allclose(directionality(found), 1, atol=1e-6)
    assert np.isfinite(order_parameter(frames)).all()


def test_nan_falls_back_to_the_one_sided_difference():
    position = grid()
    phase = (0.5 * (position[:, 0] - 1.8) ** 2)[:, None]
    phase[45] = np.nan
    gradient = gradient_operator(place(position))(phase)[0, :, 0]
    x = position[:, 0] - 1.8
    np.testing.assert_allclose(gradient[44], x[44] - PITCH / 2)
    np.testing.assert_allclose(gradient[46], x[46] + PITCH / 2)
    np.testing.assert_allclose(gradient[[43, 35, 55]], x[[43, 35, 55]])


def test_nothing_left_is_nan_and_all_nan_is_nan():
    position = grid(3, 3)
    operator = gradient_operator(place(position))
    phase = np.zeros((9, 2), np.float32)
    phase[[3, 5], 0] = np.nan
    phase[:, 1] = np.nan
    gradient = operator(phase)
    assert gradient.dtype == np.float32
    assert np.isnan(gradient[:, 4, 0]).all()
    assert np.isfinite(gradient[:, [1, 7], 0]).all()
    assert np.isnan(gradient[..., 1]).all()
    assert np.isnan(directionality(gradient)[1])
    assert np.isnan(order_parameter(phase)[1])


@pytest.mark.parametrize("angle", [0, 90, 37, -120])
def test_a_line_sees_the_component_along_itself(angle):
    axis = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    position = np.arange(32)[:, None] * 0.1 * axis + [5.0, 1.0]
    electrodes = place(position)
    assert electrodes.linear
    assert electrodes.lattice is None
    assert abs(electrodes.axis @ axis) == pytest.approx(1)
    assert electrodes.axis[0] > -1e-9
    k = np.array([3.0, 4.0])
    gradient = gradient_operator(electrodes)(wrap(-(position @ k)[:, None]))
    expected = np.broadcast_to((-(k @ axis) * axis)[:, None, None], gradient.shape)
    np.testing.assert_allclose(gradient, expected, atol=1e-9)
    np.testing.assert_allclose(electrodes.steps(k)[0], abs(k @ axis) * 0.1)


def test_a_line_with_unequal_gaps_and_a_missing_contact():
    along = np.array([0.0, 0.1, 0.2, 0.34, 0.44, 0.54, 0.84, 0.94, 1.04])
    position = np.stack([np.zeros(9), along], axis=1)[[3, 0, 8, 1, 2, 4, 7, 5, 6]]
    electrodes = place(position)
    phase = (2 * position[:, 1] + position[:, 1] ** 2)[:, None]
    gradient = gradient_operator(electrodes)(phase)[..., 0]
    exact = 2 + 2 * position[:, 1]
    np.testing.assert_array_equal(gradient[0], 0)
    inside = np.isin(position[:, 1], [0.1, 0.2, 0.34, 0.44, 0.94])
    np.testing.assert_allclose(gradient[1, inside], exact[inside])
    # Beside the gap of three tenths only the near side counts.
    by_place = dict(zip(position[:, 1], gradient[1] - exact, strict=True))
    assert by_place[0.54] == pytest.approx(-0.1)
    assert by_place[0.84] == pytest.approx(0.1)


def test_slightly_bent_lines_are_lines_and_zigzags_are_not():
    rng = np.random.default_rng(0)
    along = np.arange(16) * 3.5
    assert place(np.stack([along, rng.normal(0, 0.1, 16)], axis=1)).linear
    zigzag = np.stack([along, np.where(np.arange(16) % 2, 2.0, -2.0)], axis=1)
    assert not place(zigzag).linear


def test_synchrony_has_no_gradient_and_steep_steps_are_counted():
    for position in (grid(), np.random.default_rng(1).uniform(0, 4, (60, 2))):
        operator = gradient_operator(place(position))
        still = np.full((len(position), 3), 1.2)
        np.testing.assert_allclose(operator(still), 0, atol=1e-12)
        np.testing.assert_array_equal(operator.steep(still), 0)
    operator = gradient_operator(place(grid()))
    for share in (0.5, 0.7, 0.8, 0.95):
        phase = wrap(share * np.pi * grid()[:, :1] / PITCH)
        assert operator.steep(phase)[0] == pytest.approx(0.5 if share > 0.75 else 0.0)
    phase[:50] = np.nan
    assert operator.steep(phase)[0] == pytest.approx(45 / 85)
    assert np.isnan(operator.steep(np.full((100, 1), np.nan))).all()


def dataset(position: np.ndarray, **coords) -> xr.Dataset:
    own = {"x": position[:, 0], "y": position[:, 1], **coords}
    return xr.Dataset(
        {"lfp": (("time", "electrode"), np.zeros((3, len(position)), np.float32))},
        coords={name: ("electrode", np.asarray(value)) for name, value in own.items()},
    ).assign_coords(electrode=np.arange(len(position)))


def test_arrays_far_apart_are_split_and_banks_are_not():
    one, two = grid(6, 6), grid(6, 6) + np.array([20.0, 0.0])
    names = np.repeat(["M1", "PMd"], 36)
    arrays = arrays_of(dataset(np.concatenate([one, two]), group=names), "s")
    assert list(arrays) == ["M1", "PMd"]
    np.testing.assert_array_equal(arrays["PMd"]["electrode"], np.arange(36, 72))
    close = np.concatenate([one, one + np.array([8 * PITCH, 0])])
    assert list(arrays_of(dataset(close, group=names), "s")) == [""]
    banks = np.where((np.arange(36) + np.arange(36) // 6) % 2, "A", "B")
    whole = dataset(one, group=banks)
    assert arrays_of(whole, "s")[""] is whole
    assert list(arrays_of(dataset(np.concatenate([one, two])), "s")) == [""]


def test_three_banks_of_two_arrays():
    position = np.concatenate([grid(6, 6), grid(6, 6) + np.array([0.0, 30.0])])
    names = np.array(["a"] * 20 + ["b"] * 16 + ["c"] * 36)
    arrays = arrays_of(dataset(position, group=names), "s")
    assert {name: part.sizes["electrode"] for name, part in arrays.items()} == {"a+b": 36, "c": 36}


@pytest.mark.parametrize("second", [grid(corners=False), grid(6, 6) * 0.75, grid(8, 8) + 0.05])
def test_positions_relative_to_each_array_are_arrays_not_duplicates(second):
    first = grid(corners=False, missing=5)
    names = np.array(["left"] * len(first) + ["right"] * len(second))
    both = dataset(np.concatenate([first, second]), group=names)
    arrays = arrays_of(both, "s")
    assert [part.sizes["electrode"] for part in arrays.values()] == [len(first), len(second)]


def test_an_electrode_listed_twice_is_a_duplicate_even_across_banks():
    position = grid(6, 6)
    position[30] = position[2]
    names = np.repeat(["A", "B"], 18)
    with pytest.raises(InputError, match=r"electrodes \[2, 30\] at the same position"):
        arrays_of(dataset(position, group=names), "s")
    position = np.concatenate([grid(6, 6), grid(6, 6)])
    position[40] = position[50]
    with pytest.raises(InputError, match=r"s, array B: field/x, y: .*\[40, 50\] at the same"):
        arrays_of(dataset(position, group=np.repeat(["A", "B"], 36)), "s")


def test_a_group_of_bad_electrodes_is_left_out_and_one_of_few_is_named():
    position = np.concatenate([grid(6, 6), [[30.0, 0.0], [31.0, 0.0]]])
    names = np.array(["grid"] * 36 + ["reference"] * 2)
    good = np.arange(38) < 36
    assert list(arrays_of(dataset(position, group=names, good=good), "s")) == [""]
    with pytest.raises(
        InputError, match="array reference: field/good: found 2 good electrodes of 2"
    ):
        arrays_of(dataset(position, group=names), "s")


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (grid() / 1e3, ["pitch 0.0004 mm: looks like metres", "`field.positions.unit: m`"]),
        (grid() * 1e3, ["pitch 4e+02 mm", "looks like micrometres", "unit: um`"]),
        # A dense probe in micrometres: the pitch might be an ECoG's, the extent is no head's.
        (np.array([(i % 4 * 16.0, i * 20.0) for i in range(384)]), ["extent", "micrometres"]),
        (np.tile([2.0, 1.0], (9, 1)), ["all 9 good electrodes at one point (2.0, 1.0) mm"]),
        (grid(3, 1), ["3 good electrodes of 3"]),
    ],
)
def test_positions_that_cannot_be_used_are_named(position, words):
    with pytest.raises(InputError) as error:
        good_electrodes(dataset(position), "s")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "position",
    [
        nwb_grid(8, 8, 0.0175),
        nwb_grid(8, 8, 10.0),
        nwb_grid(4, 5, 60.0),
        nwb_grid(40, 40, 0.005),
        np.stack([np.zeros(384), np.arange(384) * 0.02], axis=1),
    ],
)
def test_pitches_of_dense_arrays_and_of_scalp_electrodes_pass(position):
    assert len(good_electrodes(dataset(position), "s")) == len(position)


def test_depth_in_another_column_is_pointed_at():
    table = dataset(np.zeros((8, 2)), z=np.arange(8.0))
    with pytest.raises(
        InputError, match=r"column of the depth along the probe as `field\.positions\.y`"
    ):
        good_electrodes(table, "s")


def _ingest(path, position, unit=None, groups=1):
    builder = Builder()
    builder.electrodes(position[: len(position) // groups])
    if groups == 2:
        device = builder.nwb.devices["array"]
        second = builder.nwb.create_electrode_group("second", "another", "V2", device)
        for x, y in position[len(position) // 2 :]:
            builder.nwb.add_electrode(group=second, location="V2", rel_x=float(x), rel_y=float(y))
    data = np.random.default_rng(0).normal(size=(500, len(position))) * 1e-5
    builder.field(data, rate=250.0).write(path)
    field = {"series": "acquisition/lfp"}
    if unit is not None:
        field["positions"] = {"unit": unit}
    layout = Layout.model_validate({"name": "n", "description": "d", "field": field})
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


@pytest.mark.parametrize(
    ("pitch", "unit", "right"), [(4e-4, "um", "m"), (0.4, "um", "mm"), (400.0, "mm", "um")]
)
def test_ingest_names_the_unit_positions_look_like(tmp_path, pitch, unit, right):
    with pytest.raises(InputError) as error:
        _ingest(tmp_path / "f.nwb", nwb_grid(3, 3, pitch), unit)
    message = str(error.value)
    assert "field.positions.unit" in message
    assert f"Set `field.positions.unit: {right}` in the layout (it is {unit})" in message
    found = _ingest(tmp_path / "g.nwb", nwb_grid(3, 3, pitch), right)
    assert good_electrodes(found["field"].to_dataset(), "s").pitch == pytest.approx(0.4)


def test_ingest_keeps_arrays_whose_positions_start_at_zero(tmp_path):
    both = np.concatenate([nwb_grid(3, 3), nwb_grid(3, 3)])
    recording = _ingest(tmp_path / "f.nwb", both, groups=2)
    arrays = arrays_of(recording["field"].to_dataset(), "s")
    assert {name: part.sizes["electrode"] for name, part in arrays.items()} == {
        "grid": 9,
        "second": 9,
    }
    both[12] = both[13]
    with pytest.raises(InputError, match=r"electrodes \[12, 13\] all at"):
        _ingest(tmp_path / "g.nwb", both, groups=2)


@pytest.mark.parametrize("tilt", [0, 25])
def test_waves_along_a_probe_are_found_with_their_direction_and_speed(tilt):
    axis = np.array([np.sin(np.deg2rad(tilt)), np.cos(np.deg2rad(tilt))])
    position = np.arange(32)[:, None] * 0.1 * axis
    rate = 250.0
    time = np.arange(0, 20, 1 / rate)
    # Two seconds down the probe out of every five, the direction in the probe's own terms.
    travelling = time % 5 > 3
    phase = 2 * np.pi * 12 * time + 2 * np.pi * 12 / 80 * (position @ axis)[:, None]
    rng = np.random.default_rng(1)
    lfp = noise(rng, position, len(time), rate, length=0.6, shared=0.5)
    lfp += 2 * in_band(lfp, rate) * np.sqrt(2) * travelling * np.cos(phase)
    result = analyse(
        recording_of(lfp.T, position, rate),
        None,
        Params(surrogates=19, bootstrap=20, delay_band=None),
        seed=0,
    )
    assert np.isfinite(result["score"]).all()
    waves = result.isel(event=np.flatnonzero(result["class"].values == "planar"))
    assert waves.sizes["event"] >= 3
    off = np.angle(np.exp(1j * (np.deg2rad(waves["direction"]) - np.arctan2(*-axis[::-1]))))
    np.testing.assert_allclose(off, 0, atol=1e-6)
    assert float(waves["speed"].median()) == pytest.approx(80, rel=0.1)
