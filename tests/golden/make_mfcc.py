"""Writes mfcc.npz: log-mel spectrograms and MFCC of three signals by librosa 0.11, for tests/utils/test_sequence.py.

pip install librosa==0.11.0 && python tests/golden/make_mfcc.py
"""

from pathlib import Path

import librosa
import numpy as np

rng = np.random.default_rng(0)
rate, time = 8000, np.arange(2000) / 8000
signals = np.stack(
    [
        np.sin(2 * np.pi * 440 * time),
        0.5 * np.sin(2 * np.pi * (200 + 4000 * time) * time),
        0.1 * rng.normal(size=len(time)),
    ]
).astype("float32")
spectra = np.stack(
    [
        np.log(
            librosa.feature.melspectrogram(
                y=signal, sr=rate, n_fft=256, hop_length=128, center=False, n_mels=24, fmin=60, htk=True, norm=None
            )
            + 1e-6
        ).T
        for signal in signals
    ]
)
mfcc = np.stack([librosa.feature.mfcc(S=spectrum.T, n_mfcc=13, dct_type=2, norm="ortho").T for spectrum in spectra])
np.savez_compressed(
    Path(__file__).with_name("mfcc.npz"), signals=signals, rate=rate, log_mel=spectra.astype("float32"), mfcc=mfcc
)
