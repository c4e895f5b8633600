"""The game by its rules, the targets by hand, learning on a game that is learnt in seconds; gymnasium's own checker
where it is installed.
"""

import keras
import numpy as np
import pytest
from keras import ops

from utils import reinforcement
from utils.reinforcement import Catch


def array(x):
    return ops.convert_to_numpy(x)


def test_a_game_goes_by_its_rules():
    for seed in range(20):
        game = Catch(size=8, paddle=3, seed=seed)
        state, info = game.reset()
        assert state.shape == (8, 8, 2) and state.dtype == np.uint8 and set(np.unique(state)) <= {0, 255}
        columns, ended = [int(np.argmax(state[0, :, 1]))], False
        for row in range(1, 8):
            assert not ended
            before = state
            state, reward, ended, cut, info = game.step(seed % 3)
            np.testing.assert_array_equal(state[..., 0], before[..., 1])  # the frame before
            assert not cut and (reward == 0 or ended)
            columns.append(game.column)
            if row < 7:
                assert state[row, columns[-1], 1] == 255 and state[row, :, 1].sum() == 255
        assert ended and info["column"] == columns[-1]
        assert set(np.abs(np.diff(columns))) in ({0}, {1})  # straight, or aslant and off the walls
        caught = abs(columns[-1] - game.place) <= 1
        assert reward == (1 if caught else -1)


def test_the_paddle_moves_by_one_and_stays_inside():
    game = Catch(size=8, paddle=3, seed=0)
    game.reset()
    for action, move in ((1, -1), (2, 1), (0, 0)):
        game.place, game.row = 4, 0
        game.step(action)
        assert game.place == 4 + move
    game.place, game.row = 1, 0
    game.step(1)
    assert game.place == 1
    game.place, game.row = 6, 0
    game.step(2)
    assert game.place == 6


def test_a_seed_repeats_an_episode():
    game = Catch(seed=1)
    first, _ = game.reset(seed=5)
    other, _ = game.reset()
    again, _ = game.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_oracle_catches_and_chance_does_not():
    games = [Catch(seed=number) for number in range(20)]
    assert reinforcement.play(games, lambda states, games: [game.oracle() for game in games], 200) == 1
    rng = np.random.default_rng(0)
    assert reinforcement.play(games, lambda states, games: rng.integers(3, size=20), 200) < 0


def test_bad_moves_and_games_are_told():
    game = Catch()
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        game.step(0)
    game.reset()
    with pytest.raises(ValueError, match="got 3"):
        game.step(3)
    for _ in range(9):
        game.step(0)
    with pytest.raises(RuntimeError, match="ended"):
        game.step(0)
    for size, paddle in ((4, 3), (10, 2), (10, 11), (50, 3)):
        with pytest.raises(ValueError, match="paddle odd and shorter"):
            Catch(size, paddle)


def test_a_picture_shows_ball_and_paddle():
    game = Catch(size=6, seed=3)
    game.reset()
    picture = game.render()
    assert picture.shape == (6, 6, 3) and tuple(picture[0, game.column]) == (230, 159, 0)
    assert (picture[-1].any(axis=-1)).sum() == 3


def test_gymnasium_accepts_the_environment():
    pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    environment = reinforcement.gymnasium_env(8)
    check_env(environment, skip_render_check=True)
    state, _ = environment.reset(seed=2)
    assert environment.observation_space.contains(state) and environment.render().shape == (8, 8, 3)


def test_targets_by_hand():
    following = [[0.5, 1.0, -1.0], [-2.0, -1.0, -3.0], [4.0, 5.0, 6.0]]
    answer = reinforcement.q_targets(np.array([0, 1, -1]), following, [False, False, True], discount=0.9)
    np.testing.assert_allclose(answer, [0.9, 0.1, -1], rtol=1e-6)
    assert answer.dtype == np.float32


def test_only_the_action_that_was_taken_has_a_loss():
    values = ops.convert_to_tensor(np.array([[1.0, 2.0, 3.0], [0.0, 5.0, 0.0]], "float32"))
    truth = np.array([[1, 2.5], [1, 1.0]], "float32")  # errors .5 and 4: .125, and 4 - .5 beyond the parabola
    np.testing.assert_allclose(array(reinforcement.q_loss(ops.convert_to_tensor(truth), values)), [0.125, 3.5])


def test_the_memory_keeps_the_last_steps():
    memory = reinforcement.Replay(3, (2,), seed=0)
    with pytest.raises(ValueError, match="the memory is empty"):
        memory.draw(1)
    for number in range(5):
        memory.add([number, 0], number, number / 2, [number + 1, 0], number == 4)
    assert len(memory) == 3
    states, actions, rewards, following, ended = memory.draw(200)
    assert set(actions) == {2, 3, 4}  # 0 and 1 gave way
    np.testing.assert_array_equal(states[:, 0], actions)  # what belongs together stays together
    np.testing.assert_array_equal(following[:, 0], actions + 1)
    np.testing.assert_allclose(rewards, actions / 2)
    np.testing.assert_array_equal(ended, actions == 4)


def test_the_atari_network_has_the_weights_of_the_paper():
    model = reinforcement.atari_network(8)
    counts = [layer.count_params() for layer in model.layers if layer.weights]
    assert counts == [16 * 8 * 8 * 4 + 16, 32 * 4 * 4 * 16 + 32, 9 * 9 * 32 * 256 + 256, 256 * 8 + 8]
    assert model.output_shape == (None, 8)


def test_learning_beats_chance_on_a_tiny_game():
    keras.utils.set_random_seed(0)
    games = [Catch(size=6, seed=[0, number]) for number in range(16)]
    tests = [Catch(size=6, seed=[1, number]) for number in range(20)]
    network, seen = reinforcement.q_network((6, 6, 2), 3, (8, 16), 32), []
    rng = np.random.default_rng(0)
    chance = reinforcement.play(tests, lambda states, games: rng.integers(3, size=20), 400)
    losses = reinforcement.learn_to_play(network, games, 400, rate=3e-3, watch=lambda step, _: seen.append(step))
    assert len(losses) == 400 and seen == list(range(401))
    assert reinforcement.play(tests, reinforcement.greedy(network), 400) > chance + 0.4


def test_the_loop_learns_towards_the_targets_that_it_is_given():
    keras.utils.set_random_seed(0)
    asked = []

    def targets(rewards, following, ended, discount):
        asked.append((rewards.shape, following.shape, ended.shape, discount))
        return np.full(len(rewards), 0.5, "float32")

    network = reinforcement.q_network((5, 5, 2), 3, (4, 8), 16)
    games = [Catch(size=5, paddle=1, seed=number) for number in range(4)]
    reinforcement.learn_to_play(network, games, 120, rate=1e-2, batch_size=16, discount=0.5, targets=targets)
    assert set(asked) == {((16,), (16, 3), (16,), 0.5)}
    states = np.stack([game.reset()[0] for game in games])
    np.testing.assert_allclose(network.predict_on_batch(states), 0.5, atol=0.25)


def test_an_episode_is_told_with_the_values_behind_its_moves():
    game, network = Catch(size=5, paddle=1, seed=3), reinforcement.q_network((5, 5, 2), 3, (4, 8), 16)
    network.set_weights([np.zeros_like(weight) for weight in network.get_weights()])
    network.layers[-1].set_weights([np.zeros((16, 3)), np.array([0.1, 0.7, 0.2])])  # left, whatever it sees
    pictures, values, reward = reinforcement.episode(network, game)
    assert len(pictures) == 5 and reward == (1 if game.column == 0 else -1)
    np.testing.assert_allclose(values, np.tile([0.1, 0.7, 0.2], (4, 1)), rtol=1e-6)
    np.testing.assert_array_equal(pictures[-1], game.render())
    blue = np.flatnonzero(pictures[-1][-1, :, 2] > 100)
    assert set(blue) <= {0} and (pictures[0] != pictures[-1]).any()
