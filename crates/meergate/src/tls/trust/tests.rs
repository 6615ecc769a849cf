//! Chains of certificates: which are believed, and what is said of the others.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

fn ca(
    name: &str,
    by: Option<&Issuer<'_, KeyPair>>,
) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (certificate.unwrap(), Issuer::new(params, key))
}

fn leaf(name: &str, by: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
}

fn trust(root: &rcgen::Certificate, change: impl FnOnce(&mut Config)) -> Result<Trust, StartError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), root.pem()).unwrap();
    let mut config = Config::default();
    config.upstream.system_ca = false;
    config.upstream.ca = vec![file.path().to_owned()];
    change(&mut config);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Trust::load(&config, &provider, &Metrics::default())
}

fn verify(trust: &Trust, chain: &[&CertificateDer<'static>], name: &'static str) -> bool {
    let chain: Vec<_> = chain.iter().map(|certificate| (*certificate).clone()).collect();
    trust.verify(&chain, &ServerName::try_from(name).unwrap()).is_ok()
}

#[test]
fn of_a_chain_only_what_it_needs_is_remembered() {
    let (root, issuer) = ca("root", None);
    let (upper, upper_issuer) = ca("upper", Some(&issuer));
    let (lower, lower_issuer) = ca("lower", Some(&upper_issuer));
    let (other, _) = ca("other", Some(&issuer));
    let (stranger, stranger_issuer) = ca("stranger", None);
    let (strange, _) = ca("upper", Some(&stranger_issuer));
    let chain = [
        &leaf("a.test", &lower_issuer),
        strange.der(),
        lower.der(),
        other.der(),
        root.der(),
        upper.der(),
        stranger.der(),
    ];
    let of_two = trust(&root, |_| {}).unwrap();
    assert!(verify(&of_two, &chain, "a.test"));
    assert_eq!(of_two.intermediates.remembered(), [lower.der(), upper.der()].map(Clone::clone));
    assert!(verify(&of_two, &[&leaf("b.test", &lower_issuer)], "b.test"));
    assert!(verify(&of_two, &[&leaf("b.test", &upper_issuer), other.der()], "b.test"));
    // With other settings, they are known in the same order.
    let renewed = trust(&root, |_| {}).unwrap();
    let (again, again_issuer) = ca("lower", Some(&upper_issuer));
    let chain_again = [&leaf("a.test", &again_issuer), again.der(), upper.der()];
    assert!(verify(&of_two, &chain_again, "a.test"));
    renewed.learn_from(&of_two);
    let known = renewed.intermediates.remembered();
    assert_eq!(known, [again.der(), lower.der(), upper.der()].map(Clone::clone));
    let of_none = trust(&root, |config| config.upstream.intermediate_cache = 0).unwrap();
    assert!(verify(&of_none, &chain, "a.test"));
    assert!(of_none.intermediates.remembered().is_empty());
    assert!(!verify(&of_none, &[&leaf("b.test", &lower_issuer)], "b.test"));
}

#[test]
fn no_more_is_remembered_and_tried_than_there_may_be() {
    let (root, issuer) = ca("root", None);
    let few = trust(&root, |config| config.upstream.intermediate_cache = 8).unwrap();
    for number in 0..40 {
        let (between, between_issuer) = ca(&format!("{number}"), Some(&issuer));
        assert!(verify(&few, &[&leaf("a.test", &between_issuer), between.der()], "a.test"));
    }
    assert!((1..=8).contains(&few.intermediates.remembered().len()));
    // Of one name, with keys each of its own.
    let all = trust(&root, |_| {}).unwrap();
    let of_one_name: Vec<_> = (0..9).map(|_| ca("same", Some(&issuer))).collect();
    for (between, between_issuer) in &of_one_name {
        assert!(verify(&all, &[&leaf("a.test", between_issuer), between.der()], "a.test"));
    }
    assert_eq!(all.intermediates.remembered().len(), 4);
    assert!(verify(&all, &[&leaf("b.test", &of_one_name[8].1)], "b.test"));
    assert!(!verify(&all, &[&leaf("b.test", &of_one_name[0].1)], "b.test"));
    let shown = leaf("b.test", &of_one_name[8].1);
    assert_eq!(all.intermediates.missing(&[shown], 3).len(), 3);
}

#[test]
fn files_of_intermediates_hold_nothing_else() {
    let (root, issuer) = ca("root", None);
    let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    for (text, words) in [
        (root.pem() + &leaf.pem(), "certificate 2 in the file is not a CA's"),
        (String::new(), "no certificate"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".into(), "not PEM"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_owned();
        let error = trust(&root, |config| config.upstream.intermediates = vec![path]).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
