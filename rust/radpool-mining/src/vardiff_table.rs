//! Thresholds of vardiff's tests.
//!
//! For n shares, the mean `λ` at which a Poisson count is as large (`UP_MICRO`) or as small
//! (`DOWN_MICRO`) as n with probability 1/1000 exactly, moved by √2 to the edge of the dead band: in
//! millionths of the shares that the wanted rate makes us expect. A test recomputes them.

/// Shares after which an observation that moved nothing starts afresh: enough to tell a little more
/// than twice the wanted rate, few enough (ten minutes) that a miner which changes is not judged by
/// what it was.
pub(crate) const SHARES_MAX: usize = 64;

/// `λ / √2` where `P(N >= n | λ) = 1/1000`: with fewer shares expected, n are too many.
#[rustfmt::skip]
pub(crate) const UP_MICRO: [u32; SHARES_MAX + 1] = [
    0, 707, 32_104, 134_727, 303_032, 522_814, 782_841, 1_075_040, 1_393_575, 1_734_125, 2_093_404,
    2_468_852, 2_858_437, 3_260_514, 3_673_730, 4_096_959, 4_529_250, 4_969_793, 5_417_892,
    5_872_941, 6_334_413, 6_801_842, 7_274_818, 7_752_973, 8_235_979, 8_723_542, 9_215_396,
    9_711_298, 10_211_030, 10_714_391, 11_221_198, 11_731_281, 12_244_485, 12_760_667, 13_279_694,
    13_801_443, 14_325_799, 14_852_655, 15_381_912, 15_913_476, 16_447_259, 16_983_181, 17_521_163,
    18_061_134, 18_603_024, 19_146_769, 19_692_309, 20_239_585, 20_788_542, 21_339_129, 21_891_297,
    22_444_998, 23_000_188, 23_556_824, 24_114_866, 24_674_275, 25_235_015, 25_797_049, 26_360_345,
    26_924_870, 27_490_593, 28_057_484, 28_625_515, 29_194_659, 29_764_889,
];

/// `λ * √2` where `P(N <= n | λ) = 1/1000`: with more shares expected, n are too few.
#[rustfmt::skip]
pub(crate) const DOWN_MICRO: [u32; SHARES_MAX + 1] = [
    9_769_042, 13_058_019, 15_880_024, 18_472_799, 20_922_087, 23_270_524, 25_543_012, 27_755_607,
    29_919_383, 32_042_365, 34_130_590, 36_188_734, 38_220_510, 40_228_921, 42_216_442, 44_185_137,
    46_136_750, 48_072_774, 49_994_492, 51_903_022, 53_799_345, 55_684_323, 57_558_723, 59_423_228,
    61_278_451, 63_124_944, 64_963_206, 66_793_692, 68_616_814, 70_432_950, 72_242_448, 74_045_624,
    75_842_775, 77_634_171, 79_420_065, 81_200_691, 82_976_266, 84_746_996, 86_513_068, 88_274_662,
    90_031_945, 91_785_072, 93_534_192, 95_279_444, 97_020_958, 98_758_859, 100_493_263,
    102_224_283, 103_952_022, 105_676_581, 107_398_054, 109_116_533, 110_832_102, 112_544_844,
    114_254_837, 115_962_156, 117_666_872, 119_369_052, 121_068_763, 122_766_067, 124_461_024,
    126_153_690, 127_844_122, 129_532_373, 131_218_492,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// `P(N <= shares)` for the mean `lambda`, summed in logarithms so that nothing underflows.
    fn at_most(shares: usize, lambda: f64) -> f64 {
        let mut log_term = -lambda;
        let mut sum = log_term.exp();
        for count in 1..=shares {
            log_term += lambda.ln() - (count as f64).ln();
            sum += log_term.exp();
        }
        sum
    }

    #[test]
    fn thresholds_are_where_one_miner_in_a_thousand_is() {
        for (shares, micro) in DOWN_MICRO.into_iter().enumerate() {
            let lambda = f64::from(micro) / 1e6 / 2f64.sqrt();
            let tail = at_most(shares, lambda);
            assert!((tail - 1e-3).abs() < 2e-9, "P(N <= {shares} | {lambda}) = {tail}");
        }
        for (shares, micro) in UP_MICRO.into_iter().enumerate().skip(1) {
            let lambda = f64::from(micro) / 1e6 * 2f64.sqrt();
            let tail = 1.0 - at_most(shares - 1, lambda);
            assert!((tail - 1e-3).abs() < 2e-6, "P(N >= {shares} | {lambda}) = {tail}");
        }
        assert!(UP_MICRO.is_sorted() && DOWN_MICRO.is_sorted());
    }
}
