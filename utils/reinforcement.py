"""Learning to act from pixels: a small visual game, a memory of steps, the deep Q-network (Mnih et al. 2013, 2015)."""

import keras
import numpy as np
from keras import layers, ops

from utils import training


class Catch:
    """A ball falls and bounces off the walls; a paddle on the ground has to be under it when it lands.

    The interface is that of `gymnasium.Env` (Towers et al. 2024), without the dependency: `gymnasium_env` makes a real
    one. A step moves the ball one row down and `drift` columns to the side, and the paddle by one column at most, so
    that the paddle has to start before the ball is near. The observation holds two frames, the one before and the
    present one: a single picture does not tell where a ball is going.

    Actions: 0 stay, 1 left, 2 right. Reward: 1 for a catch, -1 for a miss, at the end of an episode of `size - 1`
    steps; 0 before.

    Args:
        size: cells of a side, 5 to 40.
        paddle: cells of the paddle, odd.
        seed: of the episodes, as long as `reset` is given none.

    Raises:
        ValueError: the size or the paddle is out of its range.
    """

    actions = ("stay", "left", "right")
    MOVES = (0, -1, 1)

    def __init__(self, size=10, paddle=3, seed=0):
        if not 5 <= size <= 40 or paddle % 2 != 1 or not 1 <= paddle < size:
            raise ValueError(f"the side must be 5 to 40 and the paddle odd and shorter, got {size} and {paddle}")
        self.size, self.paddle = size, paddle
        self.rng = np.random.default_rng(seed)
        self.row = None

    def reset(self, *, seed=None, options=None):
        """Begin an episode.

        Args:
            seed: int, begins the random numbers anew; None: they go on.
            options: taken for the interface's sake; there are none.

        Returns:
            observation (size, size, 2) uint8, 0 or 255; dict with "column", where the ball will land.
        """
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.row = 0
        self.column = int(self.rng.integers(self.size))
        self.drift = int(self.rng.integers(-1, 2))
        self.place = int(self.rng.integers(self.size - self.paddle + 1)) + self.paddle // 2
        self.frame = self._draw()
        self.landing = self._landing()
        return np.stack([self.frame, self.frame], axis=-1), {"column": self.landing}

    def step(self, action):
        """Move.

        Args:
            action: 0, 1 or 2.

        Returns:
            observation (size, size, 2) uint8, reward float, whether the episode has ended, False (no episode is cut
            short), dict as `reset`.

        Raises:
            ValueError: the action is unknown.
            RuntimeError: the episode has ended, or none has begun: `reset` first.
        """
        if self.row is None or self.row == self.size - 1:
            raise RuntimeError("the episode has ended or none has begun: call reset() first")
        if action not in (0, 1, 2):
            raise ValueError(f"an action is 0 (stay), 1 (left) or 2 (right), got {action!r}")
        half = self.paddle // 2
        self.place = int(np.clip(self.place + self.MOVES[action], half, self.size - 1 - half))
        self.row += 1
        self.column, self.drift = self._bounce(self.column, self.drift)
        before, self.frame = self.frame, self._draw()
        ended = self.row == self.size - 1
        reward = (1.0 if abs(self.column - self.place) <= half else -1.0) if ended else 0.0
        return np.stack([before, self.frame], axis=-1), reward, ended, False, {"column": self.landing}

    def render(self):
        """The present frame as a picture (size, size, 3) uint8: the ball orange, the paddle blue, on black."""
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        half = self.paddle // 2
        picture[-1, self.place - half : self.place + half + 1] = (0, 114, 178)
        picture[self.row, self.column] = (230, 159, 0)
        return picture

    def oracle(self):
        """The best action for one who knows where the ball will land."""
        return 1 if self.landing < self.place else 2 if self.landing > self.place else 0

    def _bounce(self, column, drift):
        if not 0 <= column + drift < self.size:
            drift = -drift
        return column + drift, drift

    def _landing(self):
        column, drift = self.column, self.drift
        for _ in range(self.size - 1 - self.row):
            column, drift = self._bounce(column, drift)
        return column

    def _draw(self):
        frame = np.zeros((self.size, self.size), np.uint8)
        half = self.paddle // 2
        frame[self.row, self.column] = 255
        frame[-1, self.place - half : self.place + half + 1] = 255
        return frame


def gymnasium_env(size=10, paddle=3):
    """`Catch` as a `gymnasium.Env` with its spaces, for libraries that ask for one. Needs the package gymnasium.

    Args:
        size, paddle: as for `Catch`.

    Returns:
        gymnasium.Env.
    """
    import gymnasium

    class CatchEnv(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  as gymnasium has it

        def __init__(self, render_mode="rgb_array"):
            self.render_mode = render_mode
            self.game = Catch(size, paddle)
            self.action_space = gymnasium.spaces.Discrete(len(Catch.actions))
            self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 2), np.uint8)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.game.reset(seed=seed, options=options)

        def step(self, action):
            return self.game.step(int(action))

        def render(self):
            return self.game.render()

    return CatchEnv()


class Replay:
    """The last steps of play, drawn at random for training: neighbours in time are alike, a random draw is not (Lin
    1992).

    Args:
        capacity: steps that are kept; the oldest give way.
        shape: of an observation.
        seed: of the draws.
    """

    def __init__(self, capacity, shape, seed=0):
        self.states = np.zeros((capacity, *shape), np.uint8)
        self.following = np.zeros((capacity, *shape), np.uint8)
        self.actions = np.zeros(capacity, np.int32)
        self.rewards = np.zeros(capacity, np.float32)
        self.ended = np.zeros(capacity, bool)
        self.rng = np.random.default_rng(seed)
        self.added = 0

    def __len__(self):
        return min(self.added, len(self.actions))

    def add(self, state, action, reward, following, ended):
        """Keep one step: observation, action, reward, the observation after it, whether the episode ended there."""
        row = self.added % len(self.actions)
        self.states[row], self.actions[row], self.rewards[row] = state, action, reward
        self.following[row], self.ended[row] = following, ended
        self.added += 1

    def draw(self, count):
        """`count` steps at random, with replacement: states, actions, rewards, following states, ended. ValueError if
        there are none.
        """
        if not len(self):
            raise ValueError("the memory is empty: add steps before drawing any")
        rows = self.rng.integers(len(self), size=count)
        return self.states[rows], self.actions[rows], self.rewards[rows], self.following[rows], self.ended[rows]


def q_targets(rewards, following, ended, discount=0.97):
    """What a Q-network is trained towards: reward + discount * largest value of the next state, the reward alone at an
    episode's end.

    Args:
        rewards: (B,) float.
        following: (B, A) float, the target network's values of the next states.
        ended: (B,) bool.
        discount: in [0, 1], what a reward one step later is worth.

    Returns:
        (B,) float32.
    """
    values = np.asarray(following).max(axis=1)
    return np.asarray(rewards + discount * values * ~np.asarray(ended, bool), "float32")


@keras.saving.register_keras_serializable("convnets")
def q_loss(y_true, values):
    """Huber loss of the value of the action that was taken; the other actions get no gradient.

    Args:
        y_true: (B, 2) float: action, target.
        values: (B, A) float.

    Returns:
        (B,) tensor.
    """
    taken = ops.one_hot(ops.cast(y_true[:, 0], "int32"), values.shape[-1])
    error = ops.abs(y_true[:, 1] - ops.sum(values * taken, axis=-1))
    return ops.where(error < 1, ops.square(error) / 2, error - 0.5)


def q_network(shape, actions, widths=(16, 32), dense=64, name="q_network"):
    """Two convolutions, a dense layer, one value for each action: the shape of Mnih et al.'s network, for small
    pictures.

    Args:
        shape: (H, W, frames) of an observation, 0 to 255.
        actions: number of values.
        widths: filters of the convolutions; each but the first halves the map.
        dense: units of the dense layer.
        name: of the model.

    Returns:
        keras.Model: (B, H, W, frames) -> (B, actions).
    """
    frames = layers.Input(shape)
    x = layers.Rescaling(1 / 255)(frames)
    for number, width in enumerate(widths):
        x = layers.Conv2D(
            *(width, 3, 2 if number else 1), padding="same", activation="relu", kernel_initializer="he_normal"
        )(x)
    x = layers.Dense(dense, activation="relu", kernel_initializer="he_normal")(layers.Flatten()(x))
    return keras.Model(frames, layers.Dense(actions)(x), name=name)


def atari_network(actions=8, name="atari"):
    """The network of Mnih et al. (2013): 84 x 84 pixels of four frames in, a value for each joystick move out.

    Args:
        actions: number of values.
        name: of the model.

    Returns:
        keras.Model: (B, 84, 84, 4) -> (B, actions).
    """
    frames = layers.Input((84, 84, 4))
    x = layers.Rescaling(1 / 255)(frames)
    x = layers.Conv2D(16, 8, 4, activation="relu", name="conv1")(x)
    x = layers.Conv2D(32, 4, 2, activation="relu", name="conv2")(x)
    x = layers.Dense(256, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(frames, layers.Dense(actions, name="values")(x), name=name)


def play(games, choose, episodes):
    """Mean reward of an episode.

    Args:
        games: list of games as `Catch`, with episodes of one length; they play side by side.
        choose: function (observations (G, ...), games) -> G actions.
        episodes: how many are counted, a multiple of the number of games.

    Returns:
        float.
    """
    total = 0.0
    for _ in range(episodes // len(games)):
        states, running = np.stack([game.reset()[0] for game in games]), True
        while running:
            steps = [game.step(int(action)) for game, action in zip(games, choose(states, games))]
            states, running = np.stack([step[0] for step in steps]), not steps[0][2]
            total += sum(step[1] for step in steps)
    return total / (episodes // len(games) * len(games))


def greedy(network):
    """A function for `play`: the action with the largest value."""
    return lambda states, games: np.asarray(network.predict_on_batch(states)).argmax(axis=1)


def episode(network, game):
    """One game, from its beginning to its end, in which every move is the one with the largest value.

    Args:
        network: keras.Model giving values (B, A).
        game: as `Catch`.

    Returns:
        pictures, T + 1 as `game.render` gives them; the values (T, A) before each move; the last reward.
    """
    state, ended = game.reset()[0], False
    pictures, values = [game.render()], []
    while not ended:
        values.append(np.asarray(network.predict_on_batch(state[None]))[0])
        state, reward, ended, _, _ = game.step(int(values[-1].argmax()))
        pictures.append(game.render())
    return pictures, np.array(values), reward


def learn_to_play(
    network,
    games,
    steps,
    rate=1e-3,
    discount=0.97,
    batch_size=64,
    exploration=(1.0, 0.05),
    copy_every=50,
    capacity=20_000,
    warm_up=20,
    seed=0,
    targets=q_targets,
    watch=None,
):
    """Deep Q-learning: play, remember, learn from random draws of the memory, towards the values of an older copy of
    the network.

    One step: every game makes one move, by chance with the probability of exploration, else the one with the largest
    value; then one gradient step on a batch from the memory. Several games side by side in the place of one (Mnih et
    al. play one and learn every fourth move) fill the memory at the price of a single forward pass.

    Args:
        network: keras.Model giving values (B, A); it is compiled here.
        games: list of games as `Catch`.
        steps: gradient steps.
        rate: learning rate of Adam.
        discount: see `q_targets`.
        batch_size: steps of play in a batch.
        exploration: probability of a random move at the beginning and from half of the steps on, linear between.
        copy_every: gradient steps after which the target network takes the network's weights.
        capacity: of the memory.
        warm_up: moves of every game before learning begins.
        seed: of exploration and memory.
        targets: function (rewards, following values, ended, discount) -> (B,), see `q_targets`.
        watch: function (step, network), called before the first step and after every one; None: none.

    Returns:
        list of the losses.
    """
    network.compile(keras.optimizers.Adam(rate), q_loss, jit_compile=training.jit_compile())
    target = keras.models.clone_model(network)
    target.set_weights(network.get_weights())
    rng, losses = np.random.default_rng([seed, 1]), []
    states = np.stack([game.reset()[0] for game in games])
    memory = Replay(capacity, states.shape[1:], seed)
    first, last = exploration
    if watch:
        watch(0, network)
    for step in range(-warm_up, steps):
        chance = first if step < 0 else max(last, first + (last - first) * 2 * step / steps)
        chosen = rng.integers(network.output_shape[-1], size=len(games))
        if chance < 1:
            best = np.asarray(network.predict_on_batch(states)).argmax(axis=1)
            chosen = np.where(rng.random(len(games)) < chance, chosen, best)
        for row, (game, action) in enumerate(zip(games, chosen)):
            following, reward, ended, _, _ = game.step(int(action))
            memory.add(states[row], action, reward, following, ended)
            states[row] = game.reset()[0] if ended else following
        if step < 0:
            continue
        before, actions, rewards, after, done = memory.draw(batch_size)
        goals = targets(rewards, np.asarray(target.predict_on_batch(after)), done, discount)
        losses.append(float(network.train_on_batch(before, np.stack([actions, goals], axis=1).astype("float32"))))
        if (step + 1) % copy_every == 0:
            target.set_weights(network.get_weights())
        if watch:
            watch(step + 1, network)
    return losses
