//! From bytes to a delivery that somebody with the secret has sent: the one way to a body.

use http::{HeaderMap, HeaderValue};
use rowbridge_schema::SigningKey;
use rowbridge_schema::signature::{
    HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, SignedHeaders, VerifyError, verify,
};

use crate::receive::body::{Encoding, InflateError, ReceivedBody, inflate};

/// What arrived. Its body cannot be read before [`RawDelivery::verify`].
#[derive(Debug)]
pub(crate) struct RawDelivery {
    headers: HeaderMap,
    encoding: Encoding,
    body: ReceivedBody,
}

impl RawDelivery {
    pub(crate) fn new(headers: HeaderMap, encoding: Encoding, body: ReceivedBody) -> Self {
        Self { headers, encoding, body }
    }

    /// Bytes on the wire.
    pub(crate) fn wire_bytes(&self) -> usize {
        self.body.bytes.len()
    }

    /// Checks headers, age and signature over the bytes as received.
    ///
    /// # Errors
    /// The reason, for our own log: whoever sent this gets one text for all of them.
    pub(crate) fn verify(
        self,
        keys: &[SigningKey],
        now_seconds: u64,
        tolerance_seconds: u64,
    ) -> Result<VerifiedDelivery, VerifyError> {
        let id = single(&self.headers, HEADER_ID)?;
        let headers = SignedHeaders {
            id: text(id)?,
            timestamp: text(single(&self.headers, HEADER_TIMESTAMP)?)?,
            signature: text(single(&self.headers, HEADER_SIGNATURE)?)?,
        };
        verify(keys, headers, &self.body.bytes, now_seconds, tolerance_seconds)?;
        let sent_seconds: u64 = headers.timestamp.parse().map_err(|_| VerifyError::Headers)?;
        Ok(VerifiedDelivery { id: id.clone(), sent_seconds, encoding: self.encoding, body: self.body })
    }
}

/// A header that stands there once. Of two, a proxy and we might each believe another.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a HeaderValue, VerifyError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(VerifyError::Headers),
    }
}

fn text(value: &HeaderValue) -> Result<&str, VerifyError> {
    value.to_str().map_err(|_| VerifyError::Headers)
}

/// What somebody with the secret has sent, within the tolerance. Only [`RawDelivery::verify`] makes one.
#[derive(Debug)]
pub(crate) struct VerifiedDelivery {
    id: HeaderValue,
    sent_seconds: u64,
    encoding: Encoding,
    body: ReceivedBody,
}

impl VerifiedDelivery {
    /// `webhook-id`, which the answer's signature repeats.
    pub(crate) fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// `webhook-timestamp`, in seconds since 1970 by the sender's clock.
    pub(crate) fn sent_seconds(&self) -> u64 {
        self.sent_seconds
    }

    /// About how many bytes [`VerifiedDelivery::into_body`] has to touch.
    pub(crate) fn expected_bytes(&self) -> usize {
        let factor = if self.encoding == Encoding::Identity { 1 } else { 10 };
        self.body.bytes.len().saturating_mul(factor)
    }

    /// The body, inflated to at most `max` bytes.
    ///
    /// # Errors
    /// Larger than that, or not what `Content-Encoding` says.
    pub(crate) fn into_body(self, max: u64) -> Result<Vec<u8>, InflateError> {
        inflate(self.body.bytes, self.encoding, max)
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::signature::sign;

    use super::*;

    fn raw(headers: &[(&'static str, &str)], body: &[u8]) -> RawDelivery {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        RawDelivery::new(map, Encoding::Identity, ReceivedBody::for_test(body))
    }

    #[test]
    fn a_body_opens_only_for_one_set_of_right_headers() {
        let keys = [SigningKey::generate()];
        let signature = sign(&keys, "id", 100, b"body");
        let good = [(HEADER_ID, "id"), (HEADER_TIMESTAMP, "100"), (HEADER_SIGNATURE, signature.as_str())];
        let verified = raw(&good, b"body").verify(&keys, 101, 5).unwrap();
        assert_eq!((verified.id().as_bytes(), verified.sent_seconds()), (&b"id"[..], 100));
        assert_eq!(verified.into_body(4), Ok(b"body".to_vec()));

        let refused = |delivery: RawDelivery, now| delivery.verify(&keys, now, 5).unwrap_err();
        assert_eq!(refused(raw(&good, b"bodY"), 100), VerifyError::Mismatch);
        assert_eq!(refused(raw(&good, b"body"), 106), VerifyError::Stale { skew_seconds: -6 });
        for missing in 0..3 {
            let mut some = good.to_vec();
            some.remove(missing);
            assert_eq!(refused(raw(&some, b"body"), 100), VerifyError::Headers);
            let mut twice = good.to_vec();
            twice.push(good[missing]);
            assert_eq!(refused(raw(&twice, b"body"), 100), VerifyError::Headers);
        }
    }
}
